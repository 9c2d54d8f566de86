"""Spearman's rank correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Of two rows of numbers, equal ones at the mean of their ranks; None where a row is constant."""
    ranks = [_ranks(values) for values in (one, other)]
    if len(one) < 2 or not all(rank.std() for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: Sequence[float]) -> Any:
    given = np.asarray(values)
    return np.array([(given < value).sum() + ((given == value).sum() + 1) / 2 for value in given])
