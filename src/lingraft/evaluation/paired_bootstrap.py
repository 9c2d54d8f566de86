"""The change of a measure with its paired bootstrap interval; means over learned and retained languages; accuracies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lingraft.evaluation.suite import Roles
from lingraft.schema import Change, TaskLanguage, TaskResult

RESAMPLES = 2000


def delta_interval(
    change: npt.NDArray[np.float64], size: npt.NDArray[np.int64], seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of sum(change) / sum(size): a paired bootstrap over documents or questions.

    `change` is the difference after - before of each, `size` its weight, both (n,); each resample
    draws n with replacement. A single document has no interval.
    """
    if len(change) < 2:
        return None
    random = np.random.default_rng(seed)
    deltas = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = random.integers(0, len(change), len(change))
        deltas[i] = change[drawn].sum() / size[drawn].sum()
    low, high = np.quantile(deltas, [0.025, 0.975])
    return float(low), float(high)


def changed(before: float, after: float, interval: tuple[float, float] | None) -> Change:
    """A number before and after, with the interval of its change where there is one."""
    ends = {"ci95": list(interval)} if interval else {}
    return Change(before=before, after=after, delta=after - before, **ends)


def learned_and_forgotten(gains: Mapping[str, float], roles: Roles) -> dict[str, float]:
    """`learning`, the mean gain over learned languages, and `forgetting`, the mean loss over retained ones.

    Each is given where a language has that role.
    """
    learned = [gain for code, gain in gains.items() if roles.get(code) == "learn"]
    forgotten = [-gain for code, gain in gains.items() if roles.get(code) == "retain"]
    return {
        **({"learning": float(np.mean(learned))} if learned else {}),
        **({"forgetting": float(np.mean(forgotten))} if forgotten else {}),
    }


def accuracies(
    after: Mapping[str, npt.NDArray[np.float64]],
    before: Mapping[str, npt.NDArray[np.float64]] | None,
    chance: Mapping[str, float],
    roles: Roles,
) -> TaskResult:
    """The accuracy of a task by language, and its change.

    `after` and `before` say of each question how far it is answered right, from 0 to 1, (questions,); `chance` is the
    accuracy of guessing.
    """
    languages = {
        code: TaskLanguage(
            role=roles.get(code, "observe"),
            questions=len(right),
            chance=chance[code],
            accuracy=_accuracy(right, before[code] if before else None),
        )
        for code, right in after.items()
    }
    gains = {code: language.accuracy.delta for code, language in languages.items()} if before else {}
    return TaskResult(metric="accuracy", languages=languages, **learned_and_forgotten(gains, roles))


def _accuracy(after: npt.NDArray[np.float64], before: npt.NDArray[np.float64] | None) -> Change:
    if before is None:
        return Change(after=float(after.mean()))
    interval = delta_interval(after - before, np.ones(len(after), dtype=np.int64))
    return changed(float(before.mean()), float(after.mean()), interval)
