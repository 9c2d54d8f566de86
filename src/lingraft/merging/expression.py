"""Merges as weighted sums of checkpoints, with a coefficient per layer group.

Every post-hoc method of the papers is one line, `out = sum_i c_i(group) theta_i`. An
expression (a checkpoint, a mean, a checkpoint with task vectors added, nested to any depth) is
solved for the coefficients of each tensor. So a chain of merge steps is still one sum: read once,
rounded once.

A row of the embeddings or the head may be missing in some checkpoints, whose vocabularies lack its
token. An expression is then solved for the checkpoints that have it: a vector counts where its two
checkpoints have the row; a row that the anchor lacks is the mean of the adapted models that have it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Protocol

from lingraft.errors import SelectionError, nearest
from lingraft.layer_groups import LayerGroup, LayerRange, layer_group
from lingraft.merging.source_model import SourceModel

Coefficients = Mapping[SourceModel, float]


@dataclass(frozen=True)
class Scale:
    """A factor per layer group; `default` for the groups that are not named."""

    default: float
    by_group: Mapping[LayerGroup, float]
    layers: LayerRange

    def of(self, name: str) -> float:
        """The factor of a tensor."""
        return self.by_group.get(layer_group(name, self.layers), self.default)


def scales_by_group(scale: Mapping[str, float], layers: LayerRange, names: Iterable[str]) -> dict[LayerGroup, float]:
    """Factors by the names of layer groups, for a model that has tensors of these names.

    Raises:
        SelectionError: an unknown layer group, or one without a tensor in the model.
    """
    present = {layer_group(name, layers) for name in names}
    allowed = ", ".join(group for group in LayerGroup if group in present)
    for group, factor in scale.items():
        if group not in present:
            tied = "; the head of this model is its embeddings" if group == LayerGroup.HEAD else ""
            meant = nearest(group, present)
            raise SelectionError(
                f"scale of '{group}': the model has no such layer group{meant}{tied}; it has {allowed}"
            )
        if not math.isfinite(factor):
            raise SelectionError(f"scale of '{group}': {factor} is not a finite number")
    if not scale:
        raise SelectionError(f"no layer group is given a scale; the model has {allowed}")
    return {LayerGroup(group): float(factor) for group, factor in scale.items()}


class Expression(Protocol):
    """A model to compute."""

    def coefficients(self, name: str, holders: Set[SourceModel]) -> Coefficients | None:
        """c_i of a tensor, or of the rows that only `holders` have; `None` if `holders` cannot give them."""


@dataclass(frozen=True)
class Checkpoint:
    """theta, unchanged."""

    parent: SourceModel

    def coefficients(self, name: str, holders: Set[SourceModel]) -> Coefficients | None:
        return {self.parent: 1.0} if self.parent in holders else None


@dataclass(frozen=True)
class Mean:
    """sum_i w_i theta_i / sum_i w_i, over the parts that have the row (arXiv 2606.00284 §2.2: the expert soup)."""

    parts: tuple[tuple[Expression, float], ...]

    def coefficients(self, name: str, holders: Set[SourceModel]) -> Coefficients | None:
        return _mean((part.coefficients(name, holders), weight) for part, weight in self.parts)


@dataclass(frozen=True)
class Vector:
    """scale * (adapted - base): a language vector (arXiv 2509.11414 eq. 1)."""

    adapted: Expression
    base: Expression
    scale: float | Scale

    def factor(self, name: str) -> float:
        """The scale of a tensor."""
        return self.scale.of(name) if isinstance(self.scale, Scale) else self.scale


@dataclass(frozen=True)
class Shifted:
    """anchor + sum_i scale_i (adapted_i - base_i) (arXiv 2509.11414 eq. 1 to 4)."""

    anchor: Expression
    vectors: tuple[Vector, ...]

    def coefficients(self, name: str, holders: Set[SourceModel]) -> Coefficients | None:
        start = self.anchor.coefficients(name, holders)
        ends = [(v.adapted.coefficients(name, holders), v.base.coefficients(name, holders)) for v in self.vectors]
        factors = [vector.factor(name) for vector in self.vectors]
        if start is None:
            return _mean((adapted, abs(factor)) for (adapted, _), factor in zip(ends, factors, strict=True))
        terms = [(start, 1.0)]
        for (adapted, base), factor in zip(ends, factors, strict=True):
            if adapted is not None and base is not None:
                terms += [(adapted, factor), (base, -factor)]
        return _sum(terms)


def language_vectors(base: Expression, adapted: Iterable[tuple[Expression, float]]) -> Shifted:
    """theta_0 + sum_i scale_i (theta_i - theta_0) (arXiv 2509.11414 eq. 1 and 3).

    With the model of an earlier stage as `base` it is LayRA-series (eq. 2).
    """
    return Shifted(base, tuple(Vector(model, base, scale) for model, scale in adapted))


def interpolated(adapted: Expression, base: Expression, scale: Scale) -> Shifted:
    """theta_0 + scale_G (theta - theta_0) in each layer group G (arXiv 2606.00284 §4.1)."""
    return Shifted(base, (Vector(adapted, base, scale),))


def reverted(adapted: Expression, base: Expression, layers: LayerRange) -> Shifted:
    """The middle layers go back to the base, all else stays (arXiv 2606.00284 §2.2: train, then revert)."""
    return interpolated(adapted, base, Scale(1.0, {LayerGroup.MIDDLE: 0.0}, layers))


def instructed(instruct: Expression, adapted: Expression, base: Expression, scale: float) -> Shifted:
    """theta_instruct + scale (theta - theta_0): LayRA-instruct (arXiv 2509.11414 eq. 4)."""
    return Shifted(instruct, (Vector(adapted, base, scale),))


def _mean(parts: Iterable[tuple[Coefficients | None, float]]) -> Coefficients | None:
    known = [(part, weight) for part, weight in parts if part is not None]
    total = math.fsum(weight for _, weight in known)
    if total == 0:  # only parts of weight 0 have the row: take their plain mean
        known, total = [(part, 1.0) for part, _ in known], len(known)
    return _sum([(part, weight / total) for part, weight in known]) if known else None


def _sum(terms: list[tuple[Coefficients, float]]) -> Coefficients:
    parts: dict[SourceModel, list[float]] = {}
    for coefficients, factor in terms:
        for parent, coefficient in coefficients.items():
            parts.setdefault(parent, []).append(factor * coefficient)
    sums = {parent: tidy(math.fsum(values)) for parent, values in parts.items()}
    return {parent: total for parent, total in sums.items() if total} or sums


def tidy(coefficient: float) -> float:
    """A coefficient without rounding residue: 1 - (0.1 + 0.2 + 0.7) becomes 0."""
    return round(coefficient, 12)
