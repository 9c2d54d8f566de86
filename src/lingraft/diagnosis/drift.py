"""Drift: how far each layer moved from the base, by the kind of weights.

    drift(S) = sqrt(sum over S of (theta - theta_0)^2) / sqrt(sum over S of theta_0^2)

S are the weights of one kind in one layer: attention, feed-forward, norms; embeddings, final norm and head are layers
of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.diagnosis.base import Diagnosis, Drawing, Settings, Table, groups_sentence, percent
from lingraft.diagnosis.finished_run import FinishedRun
from lingraft.layer_groups import LayerGroup, layer_group, layer_index
from lingraft.reporting.figures import curves
from lingraft.reporting.read import GROUPS

KINDS = {"attention": ("attn", "attention"), "feed-forward": ("mlp", "feed_forward", "ffn", "experts", "moe")}


def _measure(given: Path, settings: Settings) -> dict[str, Any]:
    run = FinishedRun(given)
    return {**run.names, **drift(run)}


def drift(run: FinishedRun) -> dict[str, Any]:
    """`layers`: kind -> drift by layer; `groups`: drift of each layer group; all as shares."""
    layers = run.layers()
    sums: dict[tuple[str, int | str], list[float]] = {}
    of_groups: dict[str, list[float]] = {}
    for name, (before, after) in run.pairs().items():
        start, end = before.float(), after.float()
        moved, size = float((end - start).square().sum()), float(start.square().sum())
        group, layer = layer_group(name, layers), layer_index(name)
        keys: list[tuple[dict[Any, list[float]], Any]] = [(of_groups, str(group))]
        if layer is not None:
            keys.append((sums, (_kind(name), layer)))
        for table, key in keys:
            of = table.setdefault(key, [0.0, 0.0])
            of[0] += moved
            of[1] += size
    kinds = list(dict.fromkeys(kind for kind, _ in sums))
    return {
        "layers": {
            kind: [_share(sums.get((kind, layer), [0.0, 0.0])) for layer in range(layers.depth)] for kind in kinds
        },
        "groups": {group: _share(of_groups[group]) for group in LayerGroup if group in of_groups},
        "first": layers.first,
        "last": layers.last,
        "depth": layers.depth,
    }


def _kind(name: str) -> str:
    words = name.lower()
    if "norm" in words:
        return "norms"
    return next((kind for kind, marks in KINDS.items() if any(mark in words for mark in marks)), "other")


def _share(of: list[float]) -> float:
    return (of[0] / of[1]) ** 0.5 if of[1] else 0.0


def _draw(result: dict[str, Any]) -> Drawing:
    lines = {kind: percent(shares) for kind, shares in result["layers"].items() if any(shares)}
    title = "Distance from the base by layer, in percent of the base's own norm"
    figures = [(title, curves(lines, list(lines), across="layer", unit="%", height=360))] if lines else []
    rows = [[GROUPS.get(group, group), f"{100 * share:.3f} %"] for group, share in result["groups"].items()]
    return Drawing(figures, [Table("By layer group", ["layer group", "drift"], rows)])


DRIFT = Diagnosis(
    "drift",
    _measure,
    _draw,
    lambda result: (
        "How far training moved the weights: the norm of the change divided by the norm of the base’s weights. "
        f"{groups_sentence(result)}"
    ),
)
