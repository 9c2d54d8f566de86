"""How steadily the figures of a run changed while it trained: the sign "monotonic" of FineTasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from lingraft.evaluation import ABILITIES
from lingraft.evaluation.spearman import spearman
from lingraft.reporting.read import language_name

FEWEST = 3
"""Validations from which an order over steps is looked at."""


def monotonicity(results: Mapping[str, Any], log: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Figure -> Spearman's correlation of the step with it, from -1 to 1, where the log has enough validations.

    1 means that it rose from each validation to the next. Learning and forgetting are means over their languages.
    """
    learned, retained = (_of_role(results, role) for role in ("learn", "retain"))

    def falls(key: str) -> Callable[[str], float | None]:
        return lambda code: _correlation(log, key.format(code), -1)

    def rises(key: str) -> Callable[[str], float | None]:
        return lambda code: _correlation(log, key.format(code), 1)

    loss = "eval_{}_loss"
    found = {"learning": _mean(learned, falls(loss)), "forgetting": _mean(retained, rises(loss))}
    for code in results["languages"]:
        found[f"{language_name(code)}, bits per byte"] = _mean([code], rises(loss))
    for name, prefix in ABILITIES.items():
        found[f"{name}, learning"] = _mean(learned, rises(prefix + "{}"))
        found[f"{name}, forgetting"] = _mean(retained, falls(prefix + "{}"))
    return {name: value for name, value in found.items() if value is not None}


def _of_role(results: Mapping[str, Any], role: str) -> list[str]:
    return [code for code, entry in results["languages"].items() if entry.get("role") == role]


def _mean(codes: Iterable[str], of: Callable[[str], float | None]) -> float | None:
    """The mean over languages that have it."""
    known = [value for code in codes if (value := of(code)) is not None]
    return mean(known) if known else None


def _correlation(log: Sequence[Mapping[str, float]], key: str, sign: int) -> float | None:
    line = [(entry["step"], sign * entry[key]) for entry in log if key in entry and "step" in entry]
    return spearman(*map(list, zip(*line, strict=True))) if len(line) >= FEWEST else None
