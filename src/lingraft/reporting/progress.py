"""How steadily the figures of a run changed while it trained: the sign "monotonic" of FineTasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from lingraft.evaluation import ABILITIES
from lingraft.evaluation.spearman import spearman
from lingraft.reporting.read import language_name

FEWEST = 6
"""Validations from which an order over steps is looked at: of fewer, a random one is often monotonic."""


def monotonicity(results: Mapping[str, Any], log: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figure -> Spearman's correlation of the step with it, from -1 to 1, where the log has enough validations.

    1 means that it rose from each validation to the next. Learning and forgetting are means over their languages.
    """
    learned, retained = (_of_role(results, role) for role in ("learn", "retain"))
    found = {"learning": _correlation(log, _losses(learned), -1), "forgetting": _correlation(log, _losses(retained), 1)}
    for code in results["languages"]:
        found[f"{language_name(code)}, bits per byte"] = _correlation(log, _losses([code]), 1)
    for name, prefix in ABILITIES.items():
        found[f"{name}, learning"] = _correlation(log, [prefix + code for code in learned], 1)
        found[f"{name}, forgetting"] = _correlation(log, [prefix + code for code in retained], -1)
    return {name: value for name, value in found.items() if value is not None}


def _of_role(results: Mapping[str, Any], role: str) -> list[str]:
    return [code for code, entry in results["languages"].items() if entry.get("role") == role]


def _losses(codes: Sequence[str]) -> list[str]:
    return [f"eval_{code}_loss" for code in codes]


def _correlation(log: Sequence[Mapping[str, float]], keys: Sequence[str], sign: int) -> float | None:
    """Of the mean of the languages that the log has."""
    by_step: dict[float, list[float]] = {}
    for entry in log:
        by_step.setdefault(entry.get("step", 0), []).extend(entry[key] for key in keys if key in entry)
    line = {step: sign * mean(values) for step, values in by_step.items() if values}
    return spearman(list(line), list(line.values())) if len(line) >= FEWEST else None
