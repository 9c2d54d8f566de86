"""DARE (arXiv 2311.03099 §3.2): drop elements of each task vector at random, rescale the others, and add.

    theta = theta_0 + scale * sum_i w_i m_i * (theta_i - theta_0) / density,   m_i = 1 with probability `density`

Whether a weight is dropped depends on the seed, the tensor's name, which vector it is and where the
weight lies in the tensor; not on threads, chunks or shards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lingraft.checkpoints.dtypes import Floats
from lingraft.merging.formulas import Each, Formula, VectorRule
from lingraft.merging.source_model import SourceModel
from lingraft.merging.tensor_reader import Desk, Operand, Rows, runs

_DRAWS_A_BLOCK = 8
"""Philox counts in blocks of four 64-bit numbers; a draw is half of one."""


@dataclass(frozen=True)
class DareFormula:
    """DARE on one tensor, or on the rows of it that one set of parents has."""

    base: Operand
    vectors: Sequence[tuple[Operand, float, int]]
    """Operand, weight, and key of the random draws."""
    density: float
    scale: float

    @property
    def operands(self) -> Sequence[Operand]:
        return [self.base, *(operand for operand, _, _ in self.vectors)]

    @property
    def copied(self) -> Operand | None:
        return None if any(weight for _, weight, _ in self.vectors) and self.scale else self.base

    def prepare(self, each: Each) -> None:
        """Does nothing: the draws need no pass over the rows."""

    def __call__(self, rows: Rows, desk: Desk) -> Floats:
        base = desk.numbers(self.base, rows).copy()
        total = base.copy()
        for operand, weight, key in self.vectors:
            tau = desk.numbers(operand, rows)
            tau -= base
            tau *= kept(key, rows, base.shape[1], self.density)
            tau *= np.float32(self.scale * weight / self.density)
            total += tau
        return total


def draw_key(seed: int, name: str, vector: int) -> int:
    """The key of the random draws for one tensor and one vector."""
    digest = hashlib.sha256(f"{seed}\n{vector}\n{name}".encode()).digest()
    return int.from_bytes(digest[:16], "little")


def kept(key: int, rows: Rows, row_size: int, density: float) -> NDArray[np.bool_]:
    """(rows, row size): which weights stay, each with probability `density`."""
    mask = np.empty((len(rows), row_size), np.bool_)
    for first, last in runs(rows):
        draws = _draws(key, int(rows[first]) * row_size, (last - first) * row_size)
        mask[first:last] = (draws < density * 2**32).reshape(last - first, row_size)
    return mask


def _draws(key: int, start: int, count: int) -> NDArray[np.uint32]:
    """Draws `start` to `start + count` of the random stream with this key."""
    block, skipped = divmod(start, _DRAWS_A_BLOCK)
    stream = np.random.Philox(key=key)
    stream.advance(block)
    numbers = stream.random_raw(-(-(skipped + count) // 2))
    return numbers.view(np.uint32)[skipped : skipped + count]


@dataclass(frozen=True)
class Dare(VectorRule):
    """DARE as a merging rule."""

    seed: int = 0

    def of_vectors(self, name: str, base: Operand, adapted: Mapping[SourceModel, Operand]) -> Formula:
        keys = {parent: draw_key(self.seed, name, i) for i, parent in enumerate(self.weights)}
        vectors = [(operand, self.weights[parent], keys[parent]) for parent, operand in adapted.items()]
        return DareFormula(base, vectors, self.density, self.scale)
