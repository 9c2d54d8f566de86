"""TIES (arXiv 2306.01708 §3): trim each task vector, elect a sign per element, average the elements that agree.

    tau_i   = theta_i - theta_0, all but the `density` largest of each tensor set to 0
    gamma   = sign(sum_i w_i tau_i)
    theta   = theta_0 + scale * sum_{i: sign(w_i tau_i) = gamma} w_i tau_i / sum_{the same i} w_i

The threshold of a tensor is exact: the k-th largest magnitude, found by counting the magnitudes'
upper and then their lower 16 bits, so that no whole tensor is ever in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingraft.checkpoints.dtypes import Floats
from lingraft.merging.formulas import Each, Formula, VectorRule
from lingraft.merging.source_model import SourceModel
from lingraft.merging.tensor_reader import Desk, Operand, Rows

_BINS = 2**16


@dataclass
class TiesFormula:
    """TIES on one tensor, or on the rows of it that one set of parents has."""

    base: Operand
    vectors: Sequence[tuple[Operand, float]]
    density: float
    scale: float
    thresholds: list[float] = field(default_factory=list)

    @property
    def operands(self) -> Sequence[Operand]:
        return [self.base, *(operand for operand, _ in self.vectors)]

    @property
    def copied(self) -> Operand | None:
        return None if self.vectors and self.scale else self.base

    def prepare(self, each: Each) -> None:
        """Find each vector's threshold: the smallest magnitude that is kept."""
        self.thresholds = [0.0] * len(self.vectors) if self.density == 1 else self._thresholds(each)

    def _thresholds(self, each: Each) -> list[float]:
        upper = [np.zeros(_BINS, np.int64) for _ in self.vectors]
        lock = Lock()

        def count_upper(rows: Rows, desk: Desk) -> None:
            for counts, magnitudes in zip(upper, self._magnitudes(rows, desk), strict=True):
                _count(magnitudes >> 16, counts, lock)

        each(count_upper)
        places = [_find(counts, max(1, int(self.density * counts.sum()))) for counts in upper]
        lower = [np.zeros(_BINS, np.int64) for _ in self.vectors]

        def count_lower(rows: Rows, desk: Desk) -> None:
            found = zip(places, lower, self._magnitudes(rows, desk), strict=True)
            for (upper_bits, _), counts, magnitudes in found:
                _count(magnitudes[magnitudes >> 16 == upper_bits] & np.uint32(_BINS - 1), counts, lock)

        each(count_lower)
        bits = [
            upper_bits << 16 | _find(counts, rest)[0] for (upper_bits, rest), counts in zip(places, lower, strict=True)
        ]
        return [float(np.array(pattern, np.uint32).view(np.float32)) for pattern in bits]

    def _magnitudes(self, rows: Rows, desk: Desk) -> Sequence[NDArray[np.uint32]]:
        """|tau_i| as bit patterns, which sort as the numbers do."""
        return [np.abs(tau).ravel().view(np.uint32) for tau in self._base_and_vectors(rows, desk)[1]]

    def _base_and_vectors(self, rows: Rows, desk: Desk) -> tuple[Floats, Sequence[Floats]]:
        base = desk.numbers(self.base, rows).copy()
        return base, [desk.numbers(operand, rows) - base for operand, _ in self.vectors]

    def __call__(self, rows: Rows, desk: Desk) -> Floats:
        base, vectors = self._base_and_vectors(rows, desk)
        merged = merge_vectors(vectors, [weight for _, weight in self.vectors], self.thresholds)
        return base + np.float32(self.scale) * merged


def merge_vectors(vectors: Sequence[Floats], weights: Sequence[float], thresholds: Sequence[float]) -> Floats:
    """Trim vectors at their thresholds, elect signs, and average."""
    votes = []
    for tau, weight, threshold in zip(vectors, weights, thresholds, strict=True):
        vote = tau * ~(np.abs(tau) < np.float32(threshold))  # masks, for np.where takes ten times as long
        vote *= np.float32(weight)
        votes.append(vote)
    positive = sum(votes) >= np.float32(0)
    total, share = np.zeros_like(vectors[0]), np.zeros_like(vectors[0])
    for vote, weight in zip(votes, weights, strict=True):
        agrees = (vote != 0) & ((vote > 0) == positive)  # NaN stays, to be found in the result
        total += vote * agrees
        share += np.float32(weight) * agrees
    share += share == 0
    total /= share
    return total


def _count(keys: NDArray[Any], counts: NDArray[np.int64], lock: Lock) -> None:
    found = np.bincount(keys, minlength=_BINS)
    with lock:
        counts += found


def _find(counts: NDArray[np.int64], rank: int) -> tuple[int, int]:
    """The bin of the `rank`-th largest key, and the key's rank within that bin."""
    above = np.cumsum(counts[::-1])
    place = int(np.searchsorted(above, rank))
    return _BINS - 1 - place, rank - int(above[place] - counts[::-1][place])


class Ties(VectorRule):
    """TIES as a merging rule."""

    def of_vectors(self, name: str, base: Operand, adapted: Mapping[SourceModel, Operand]) -> Formula:
        vectors = [(operand, self.weights[parent]) for parent, operand in adapted.items()]
        return TiesFormula(base, vectors, self.density, self.scale)
