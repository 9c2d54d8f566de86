"""Text that a language model generates itself, as blocks of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@torch.inference_mode()
def sample(model: PreTrainedModel, tokenizer: DocumentTokenizer, count: int, length: int) -> Tensor:
    """(count, length) tokens drawn from the model at temperature 1, each row from BOS on, past the ends of documents.

    Where there is no BOS, EOS stands at the beginning: in training, it is what the next document follows.
    The model's own generation config (temperature, EOS) does not apply, and is the model's again afterwards.

    Raises:
        ModelError: documents have neither BOS nor EOS.
    """
    from transformers import GenerationConfig

    start = tokenizer.bos_ids or tokenizer.eos_ids
    if not start:
        raise ModelError(
            "self-generated text: documents have neither BOS nor EOS, so there is no token to write from; "
            "give one, as in 'document: {bos: <s>}'"
        )
    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=length - 1, pad_token_id=start[0]
    )
    own, model.generation_config = model.generation_config, GenerationConfig()
    given = torch.full((count, 1), start[0], device=model.device)
    try:
        drawn: Tensor = model.generate(given, attention_mask=torch.ones_like(given), generation_config=settings)  # type: ignore[operator]
    finally:
        model.generation_config = own
    return drawn
