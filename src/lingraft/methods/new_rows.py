"""Rows of new tokens: they train also where a method freezes embeddings and head, and begin low on old text."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lingraft.layer_groups import LayerGroup, LayerRange, depth, layer_group
from lingraft.methods.base import Adaptation, Fit, TextToFit
from lingraft.methods.inputs import ROWS, OldFromNew, shares

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

LOWERED = 3.0
"""Nats that a new token's logit loses on old text."""


def train_new_rows(adaptation: Adaptation, first: int) -> Adaptation:
    """Train the rows from `first` on of the embeddings and the head, unless the method trains all of them.

    The rows of old tokens stay as they are, bit for bit: their gradient is zero, and nothing decays.
    """
    plain = adaptation.plain
    layers = LayerRange(first=depth(plain.config), last=0, depth=depth(plain.config))
    if any(layer_group(name, layers) == LayerGroup.EMBEDDINGS for name in adaptation.trainable):
        return adaptation
    embeddings: Any = plain.get_input_embeddings()
    head: Any = plain.get_output_embeddings()
    weights = [embeddings.weight, head.weight, *([embeddings.wider.weight] if hasattr(embeddings, "wider") else [])]
    tables = {id(weight): weight for weight in weights}  # one of the first two, where they are tied
    for weight in tables.values():
        weight.data = weight.data.float()
        weight.requires_grad_(True)
        weight.register_hook(partial(_of_new_rows, first))
    named = [(name, id(weight)) for name, weight in adaptation.model.named_parameters() if weight.requires_grad]
    partly = frozenset(name for name, number in named if number in tables)
    return replace(
        adaptation,
        trainable=tuple(name for name, _ in named),
        without_decay=adaptation.without_decay | partly,
        rows={**adaptation.rows, **dict.fromkeys(partly, first)},
    )


def _of_new_rows(first: int, gradient: Tensor) -> Tensor:
    kept = gradient.clone()
    kept[:first] = 0
    return kept


def lower_new_rows(adaptation: Adaptation, first: int) -> Adaptation:
    """Lower the rows from `first` on of the head on old text, after what the method fits there.

        H_j <- H_j - lowered w,     w as `OldFromNew` of what enters the head

    So a new token's logit is `lowered` nats less on old text, and what it was on new text. A tied head stays as it is:
    its rows are what new tokens come in by.
    """
    return replace(adaptation, fit=partial(_lower, adaptation.plain, first, adaptation.fit))


def _lower(model: PreTrainedModel, first: int, fit: Fit | None, text: TextToFit) -> None:
    import torch

    if fit is not None:
        fit(text)
    head: nn.Linear = model.get_output_embeddings()
    width = head.weight.shape[1]
    told = OldFromNew(width, head.weight.device)
    with torch.inference_mode():
        for rows, old, new in zip(*(part.split(ROWS) for part in (text.blocks, *shares(text))), strict=True):
            hidden = model.get_decoder()(input_ids=rows, use_cache=False).last_hidden_state[..., :width].float()
            with torch.autocast(hidden.device.type, enabled=False):
                told.add(hidden.flatten(0, 1), old.flatten(), new.flatten())
    head.weight.data[first:] -= LOWERED * told.row().to(head.weight)
