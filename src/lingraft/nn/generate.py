"""Generation by settings of ours alone: a model's own generation config may set penalties, beams and temperatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

AT_TEMPERATURE_1 = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
GREEDILY = {"do_sample": False}


@contextmanager
def drawn_by(seed: Sequence[int]) -> Iterator[None]:
    """Within the block torch draws by this seed; what is drawn afterwards is as if the block were not."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.SeedSequence(list(seed)).generate_state(1)[0]))
        yield


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


def continued(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], ends: Sequence[int], longest: int, how: Mapping[str, Any]
) -> list[list[int]]:
    """Each row's continuation, up to one of `ends` (included) or `longest` tokens; `how` is one of the
    above, or like it.
    """
    if not rows:
        return []
    padding = ends[0] if ends else 0
    made = generate(model, rows, padding, max_new_tokens=longest, eos_token_id=list(ends) or None, **how)
    return [_up_to(row, ends) for row in made.tolist()]


def _up_to(row: list[int], ends: Sequence[int]) -> list[int]:
    end = next((i for i, token in enumerate(row) if token in ends), len(row) - 1)
    return row[: end + 1]
