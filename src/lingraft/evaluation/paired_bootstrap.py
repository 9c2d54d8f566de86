"""The change of a measure with its paired bootstrap interval; means over learned and retained languages; accuracies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    metric: str = "acc",
) -> TaskResult:
    """The mean score of a task by language, and its change.

    `after` and `before` say of each question how far it is answered right, from 0 to 1, (questions,); `chance` is the
    accuracy of guessing.
    """
    changes = {code: _mean(right, before[code] if before else None) for code, right in after.items()}
    counts = {code: len(right) for code, right in after.items()}
    return _task(metric, changes, counts, chance, before is not None, roles)


Texts = Sequence[tuple[str, str]]
"""What was to be said and what was generated, by question."""


def corpus_scores(
    metric: str, after: Mapping[str, Texts], before: Mapping[str, Texts] | None, roles: Roles
) -> TaskResult:
    """ChrF or BLEU of all generated texts of a language, from 0 to 1, as sacrebleu computes it, and its change."""
    statistics = {code: _statistics(metric, texts) for code, texts in after.items()}
    earlier = {code: _statistics(metric, texts) for code, texts in before.items()} if before else {}
    changes = {code: _of_all(metric, of, earlier.get(code)) for code, of in statistics.items()}
    counts = {code: len(texts) for code, texts in after.items()}
    return _task(metric, changes, counts, dict.fromkeys(after, 0.0), before is not None, roles)


def _task(
    metric: str,
    scores: Mapping[str, Change],
    counts: Mapping[str, int],
    chance: Mapping[str, float],
    is_compared: bool,
    roles: Roles,
) -> TaskResult:
    languages = {
        code: TaskLanguage(role=roles.get(code, "observe"), questions=counts[code], chance=chance[code], score=score)
        for code, score in scores.items()
    }
    gains = {code: language.score.delta for code, language in languages.items()} if is_compared else {}
    return TaskResult(metric=metric, languages=languages, **learned_and_forgotten(gains, roles))


def _mean(after: npt.NDArray[np.float64], before: npt.NDArray[np.float64] | None) -> Change:
    if before is None:
        return Change(after=float(after.mean()))
    interval = delta_interval(after - before, np.ones(len(after), dtype=np.int64))
    return changed(float(before.mean()), float(after.mean()), interval)


def _scorer(metric: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return CHRF() if metric == "chrf" else BLEU()


def _statistics(metric: str, texts: Texts) -> npt.NDArray[np.int64]:
    """Counts whose sums over texts give the score of the whole, (texts, counts), as sacrebleu's own tests take them."""
    generated, expected = [said for _, said in texts], [wanted for wanted, _ in texts]
    return np.array(_scorer(metric)._extract_corpus_statistics(generated, [expected]), dtype=np.int64)


def _of_all(metric: str, after: npt.NDArray[np.int64], before: npt.NDArray[np.int64] | None) -> Change:
    scorer = _scorer(metric)

    def score(statistics: npt.NDArray[np.int64]) -> float:
        return float(scorer._compute_score_from_stats(statistics.sum(axis=0).tolist()).score) / 100

    if before is None:
        return Change(after=score(after))
    if len(after) < 2:
        return changed(score(before), score(after), None)
    random = np.random.default_rng(0)
    deltas = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = random.integers(0, len(after), len(after))
        deltas[i] = score(after[drawn]) - score(before[drawn])
    low, high = np.quantile(deltas, [0.025, 0.975])
    return changed(score(before), score(after), (float(low), float(high)))
