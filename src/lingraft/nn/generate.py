"""Generation by settings of ours alone: a model's own generation config may set penalties, beams and temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

AT_TEMPERATURE_1 = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
GREEDILY = {"do_sample": False}


@torch.inference_mode()
def generate(model: PreTrainedModel, rows: Sequence[Sequence[int]], padding: int, **settings: Any) -> Tensor:
    """(rows, new tokens) that continue rows of tokens, of any lengths; they end in `padding` where a row ended.

    `settings` are those of a `GenerationConfig`. The model's own config does not apply, and is the model's again
    afterwards.
    """
    from transformers import GenerationConfig

    width = max(map(len, rows))
    given = torch.full((len(rows), width), padding)  # (B, T), padded to the left
    mask = torch.zeros_like(given)
    for i, row in enumerate(rows):
        given[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        made: Any = model.generate(  # type: ignore[operator]
            given.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(pad_token_id=padding, **settings),
        )
    finally:
        model.generation_config = own
    continued: Tensor = made[:, width:]
    return continued
