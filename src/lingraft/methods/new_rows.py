"""Rows of new tokens, which train also where a method freezes embeddings and head."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lingraft.layer_groups import LayerGroup, LayerRange, depth, layer_group
from lingraft.methods.base import Adaptation

if TYPE_CHECKING:
    from torch import Tensor


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
