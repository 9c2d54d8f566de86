"""What trains in each part of a model, from the embeddings up to the head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lingraft.layer_groups import LayerGroup, LayerRange, is_adapter_factor, layer_group, layer_index, plain_name
from lingraft.methods.base import Adaptation

_Place = tuple[LayerGroup, int]
"""A layer group and the layer in it; -1 for what lies in no layer."""


@dataclass(frozen=True)
class Part:
    """Weights of one layer, or of what lies in no layer: of the base, trained full-rank, and in what is added."""

    part: str
    group: LayerGroup
    weights: int
    in_full: int
    in_adapters: int


def stack(base: Mapping[str, int], adapted: Adaptation, layers: LayerRange) -> list[Part]:
    """The parts of a model in the order in which text passes through them.

    `base` holds the number of weights by name, as they were before the method changed the model.
    """
    weights, in_full, in_adapters = (Counter[_Place]() for _ in range(3))
    own = [index for index in range(layers.depth) if index not in adapted.added_layers]
    for name, size in base.items():
        index = layer_index(name)
        weights[_place(name if index is None else name.replace(f".{index}.", f".{own[index]}.", 1), layers)] += size
    for name in adapted.trainable:
        parameter = adapted.model.get_parameter(name)
        is_the_bases = (
            not is_adapter_factor(name)
            and layer_index(plain_name(name)) not in adapted.added_layers
            and base.get(plain_name(name)) == parameter.numel()
        )
        trained = in_full if is_the_bases else in_adapters
        trained[_place(name, layers)] += parameter[adapted.rows.get(name, 0) :].numel()
    order = list(LayerGroup)
    return [
        Part(_title(place), place[0], weights[place], in_full[place], in_adapters[place])
        for place in sorted({*weights, *in_full, *in_adapters}, key=lambda place: (order.index(place[0]), place[1]))
    ]


def _place(name: str, layers: LayerRange) -> _Place:
    index = layer_index(plain_name(name))
    return layer_group(name, layers), -1 if index is None else index


def _title(place: _Place) -> str:
    group, index = place
    return f"layer {index}" if index >= 0 else group.replace("_", " ")


def by_group(parts: Iterable[Part]) -> dict[LayerGroup, Part]:
    """The sums of each layer group, in the model's order."""
    groups: dict[LayerGroup, Part] = {}
    for part in parts:
        sums = groups.get(part.group, Part(str(part.group), part.group, 0, 0, 0))
        weights, in_full = sums.weights + part.weights, sums.in_full + part.in_full
        groups[part.group] = Part(sums.part, part.group, weights, in_full, sums.in_adapters + part.in_adapters)
    return groups
