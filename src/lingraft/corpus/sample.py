"""Text that a language model generates itself, as blocks of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.errors import ModelError
from lingraft.nn.generate import AT_TEMPERATURE_1, generate

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def sample(model: PreTrainedModel, tokenizer: DocumentTokenizer, count: int, length: int) -> Tensor:
    """(count, length) tokens drawn from the model at temperature 1, each row from BOS on, past the ends of documents.

    Where there is no BOS, EOS stands at the beginning: in training, it is what the next document follows.

    Raises:
        ModelError: documents have neither BOS nor EOS.
    """
    start = tokenizer.bos_ids or tokenizer.eos_ids
    if not start:
        raise ModelError(
            "self-generated text: documents have neither BOS nor EOS, so there is no token to write from; "
            "give one, as in 'document: {bos: <s>}'"
        )
    drawn = generate(model, [start[:1]] * count, padding=start[0], max_new_tokens=length - 1, **AT_TEMPERATURE_1)
    return torch.cat([torch.full((count, 1), start[0], device=drawn.device), drawn], dim=1)
