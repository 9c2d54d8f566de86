"""What trains in each part of a model, from the embeddings up to the head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lingraft.layer_groups import LayerGroup, LayerRange, layer_group, layer_index, plain_name
from lingraft.methods.base import Adaptation


@dataclass(frozen=True)
class Part:
    """Weights of one layer, or of what lies in no layer: of the base, trained in full, and in adapters."""

    part: str
    group: LayerGroup
    weights: int
    in_full: int
    in_adapters: int


def stack(base: Mapping[str, int], adapted: Adaptation, layers: LayerRange) -> list[Part]:
    """The parts of a model in the order in which text passes through them.

    `base` holds the number of weights by name, as they were before the method changed the model.
    """
    weights: dict[tuple[LayerGroup, int], int] = {}
    in_full: dict[tuple[LayerGroup, int], int] = {}
    in_adapters: dict[tuple[LayerGroup, int], int] = {}

    def add(totals: dict[tuple[LayerGroup, int], int], name: str, size: int) -> None:
        index = layer_index(plain_name(name))
        place = layer_group(name, layers), -1 if index is None else index
        totals[place] = totals.get(place, 0) + size

    for name, size in base.items():
        add(weights, name, size)
    for name in adapted.trainable:
        size = adapted.model.get_parameter(name).numel()
        add(in_full if base.get(plain_name(name)) == size else in_adapters, name, size)
    order = list(LayerGroup)
    return [
        Part(
            f"layer {place[1]}" if place[1] >= 0 else str(place[0]).replace("_", " "),
            place[0],
            weights[place],
            in_full.get(place, 0),
            in_adapters.get(place, 0),
        )
        for place in sorted(weights, key=lambda place: (order.index(place[0]), place[1]))
    ]


def by_group(parts: Iterable[Part]) -> dict[LayerGroup, Part]:
    """The sums of each layer group, in the model's order."""
    groups: dict[LayerGroup, Part] = {}
    for of in parts:
        sums = groups.get(of.group, Part(str(of.group), of.group, 0, 0, 0))
        weights, in_full = sums.weights + of.weights, sums.in_full + of.in_full
        groups[of.group] = Part(sums.part, of.group, weights, in_full, sums.in_adapters + of.in_adapters)
    return groups
