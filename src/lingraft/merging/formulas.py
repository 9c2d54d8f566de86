"""Formulas that compute rows of the result from rows of the parents; one per tensor and set of parents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from lingraft.checkpoints.dtypes import Floats
from lingraft.merging.expression import Checkpoint, Expression, Mean, tidy
from lingraft.merging.source_model import SourceModel
from lingraft.merging.tensor_reader import Desk, Operand, Rows

Each = Callable[[Callable[[Rows, Desk], None]], None]
"""Calls a function on all rows that a formula makes, in chunks, on all cores."""


class Formula(Protocol):
    """A pure function from rows of the parents to rows of the result."""

    @property
    def operands(self) -> Sequence[Operand]:
        """The tensors that are read."""

    @property
    def copied(self) -> Operand | None:
        """The operand that the result copies bit for bit, if there is one."""

    def prepare(self, each: Each) -> None:
        """Pass over all rows before the first is computed, where the formula needs it."""

    def __call__(self, rows: Rows, desk: Desk) -> Floats:
        """(rows, row size), in float32."""


class Rule(Protocol):
    """A merging method: gives each tensor its formula."""

    @property
    def parents(self) -> Sequence[SourceModel]:
        """Every checkpoint that is read."""

    def formula(self, name: str, operands: Mapping[SourceModel, Operand]) -> Formula | None:
        """The formula of the rows that exactly the parents in `operands` have."""


@dataclass(frozen=True)
class Linear:
    """sum_i c_i theta_i, plus c_j scale_j up_j down_j of adapters."""

    terms: Sequence[tuple[Operand, float]]
    """c_i and theta_i, each stored tensor once, without what adapters add to it."""
    adapters: Sequence[tuple[Operand, float]] = ()
    """c_j and what adapter j adds."""

    @property
    def operands(self) -> Sequence[Operand]:
        return [operand for operand, _ in (*self.terms, *self.adapters)]

    @property
    def copied(self) -> Operand | None:
        is_copy = [coefficient for _, coefficient in self.terms] == [1.0] and not self.adapters
        return self.terms[0][0] if is_copy else None

    def prepare(self, each: Each) -> None:
        """Does nothing: a sum needs no pass over the rows."""

    def __call__(self, rows: Rows, desk: Desk) -> Floats:
        (first, coefficient), *others = self.terms
        total = desk.sum((len(rows), first.tensor.row_size))
        np.multiply(desk.numbers(first, rows), np.float32(coefficient), out=total)
        for operand, coefficient in others:
            numbers = desk.numbers(operand, rows)
            numbers *= np.float32(coefficient)
            total += numbers
        for operand, coefficient in self.adapters:
            total += np.float32(coefficient) * desk.low_rank(operand, rows)
        return total


def linear(terms: Sequence[tuple[Operand, float]]) -> Linear:
    """A sum that reads every stored tensor once, also where several adapters share a base."""
    operands: dict[tuple[Path, int], Operand] = {}
    coefficients: dict[tuple[Path, int], float] = {}
    adapters = []
    for operand, coefficient in terms:
        place = (operand.tensor.file, operand.tensor.start)
        operands.setdefault(place, replace(operand, low_rank=None))
        coefficients[place] = tidy(coefficients.get(place, 0.0) + coefficient)
        if operand.low_rank is not None:
            adapters.append((operand, coefficient))
    used = [place for place in operands if coefficients[place]] or list(operands)[:1]
    return Linear([(operands[place], coefficients[place]) for place in used], adapters)


@dataclass(frozen=True)
class Sum:
    """The rule of all linear methods; only TIES and DARE have their own."""

    expression: Expression
    parents: Sequence[SourceModel]

    def formula(self, name: str, operands: Mapping[SourceModel, Operand]) -> Formula | None:
        holders: Set[SourceModel] = operands.keys()
        coefficients = self.expression.coefficients(name, holders)
        if coefficients is None:
            return None
        return linear([(operands[parent], coefficient) for parent, coefficient in coefficients.items()])


@dataclass(frozen=True)
class VectorRule(ABC):
    """A rule on task vectors of one base; rows that the base lacks are the weighted mean of the adapted models."""

    base: SourceModel
    weights: Mapping[SourceModel, float]
    density: float
    scale: float = 1.0

    @property
    def parents(self) -> Sequence[SourceModel]:
        return [self.base, *self.weights]

    def formula(self, name: str, operands: Mapping[SourceModel, Operand]) -> Formula | None:
        if self.base not in operands:
            return new_rows(name, self.weights, operands)
        return self.of_vectors(
            name, operands[self.base], {parent: operands[parent] for parent in self.weights if parent in operands}
        )

    @abstractmethod
    def of_vectors(self, name: str, base: Operand, adapted: Mapping[SourceModel, Operand]) -> Formula:
        """The formula of rows that the base and these adapted models have."""


def new_rows(
    name: str, weights: Mapping[SourceModel, float], operands: Mapping[SourceModel, Operand]
) -> Formula | None:
    """Rows that a base lacks: the mean of the adapted models that have them, by their weights."""
    mean = Mean(tuple((Checkpoint(parent), abs(weight)) for parent, weight in weights.items()))
    return Sum(mean, list(weights)).formula(name, operands)
