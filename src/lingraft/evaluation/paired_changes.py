"""The change of a measure with its paired interval; means over learned and retained languages; scores of tasks.

The interval of a mean change holds all values that a test of random signs does not reject at 5 %: if the true change
were delta, each c_i - delta s_i were as likely with the other sign. It is exact where that holds, for any number of
documents; a percentile bootstrap calls 7 to 16 % of pairs changed that are not, with 10 to 40 documents of real text
(docs/log.md). For questions that are right or wrong the test is McNemar's, but for the draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lingraft.evaluation.suite import Roles
from lingraft.schema import Change, TaskLanguage, TaskResult

DRAWS = 4000
"""Signs for each document or question."""
ALPHA = 0.05
AT_ONCE = 2**22
"""Signs that are drawn at once."""


def delta_interval(
    change: npt.NDArray[np.float64], size: npt.NDArray[np.int64], seed: int = 0
) -> tuple[float, float] | None:
    """95 % interval of D = sum(c) / sum(s), by signs that are drawn for documents or questions.

    `change` is the difference after - before of each, `size` its weight, both (n,). With signs e, a value delta is not
    rejected where |sum(e (c - delta s))| >= |sum(c - delta s)| for more than 5 % of draws. For one draw that holds
    between (A - A_e) / (B - B_e) and (A + A_e) / (B + B_e), where A = sum(c), B = sum(s), A_e = sum(e c) and
    B_e = sum(e s). So the ends are quantiles of these. Fewer than six documents can reject nothing: no interval.
    """
    count, whole, weight = len(change), change.sum(), size.sum()
    random, lows, highs = np.random.default_rng(seed), [-np.inf], [np.inf]  # the signs as they are reject nothing
    for drawn in range(0, DRAWS, step := max(1, AT_ONCE // max(1, count))):
        signs = random.integers(0, 2, (min(step, DRAWS - drawn), count)) * 2.0 - 1
        of_change, of_size = signs @ change, signs @ size.astype(float)
        is_same = np.abs(of_size) >= weight * (1 - 1e-12)
        divisors = [np.where(is_same, 1, weight + sign * of_size) for sign in (-1, 1)]
        ends = [(whole - of_change) / divisors[0], (whole + of_change) / divisors[1]]
        lows += np.where(is_same, -np.inf, np.minimum(*ends)).tolist()
        highs += np.where(is_same, np.inf, np.maximum(*ends)).tolist()
    low = float(np.quantile(lows, ALPHA, method="lower"))
    high = float(np.quantile(highs, 1 - ALPHA, method="higher"))
    return (low, high) if np.isfinite([low, high]).all() else None


def least_shown(
    change: npt.NDArray[np.float64], size: npt.NDArray[np.int64], are_questions: bool = True
) -> float | None:
    """The smallest change that so many documents show in four of five cases: 2.8 standard errors of their change.

    Of questions that are right or wrong, six that change the same way are needed at least.
    """
    count = len(change)
    if count < 2:
        return None
    rest = change - size * (change.sum() / size.sum())
    error = float(np.sqrt((rest**2).sum() * count / (count - 1)) / size.sum())
    is_right_or_wrong = are_questions and bool(np.isin(change, [-1, 0, 1]).all() and (size == 1).all())
    return max(2.8 * error, 6 / count if is_right_or_wrong else 0.0)


def mean_change(
    before: float,
    after: float,
    change: npt.NDArray[np.float64],
    size: npt.NDArray[np.int64],
    are_questions: bool = True,
) -> Change:
    """A number before and after, with the interval of its change, and the smallest change that would show."""
    least = least_shown(change, size, are_questions)
    return _changed(before, after, delta_interval(change, size), least)


def _changed(before: float, after: float, interval: tuple[float, float] | None, least: float | None = None) -> Change:
    known: dict[str, Any] = {"ci95": list(interval)} if interval else {}
    if least is not None:
        known["least_shown"] = least
    return Change(before=before, after=after, delta=after - before, **known)


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
    result = _task(metric, changes, counts, chance, before is not None, roles)
    for code, language in result.languages.items():
        measured = [after[code], *([before[code]] if before else [])]
        language.above_chance = any(_is_above(right, chance[code]) for right in measured)
    return result


def _is_above(right: npt.NDArray[np.float64], chance: float) -> bool:
    """Whether a mean is above chance, at 5 % of one side."""
    error = max(float(right.std()), float(np.sqrt(chance * (1 - chance)))) / np.sqrt(len(right))
    return bool(right.mean() - 1.64 * error > chance)


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
    return mean_change(float(before.mean()), float(after.mean()), after - before, np.ones(len(after), dtype=np.int64))


def _scorer(metric: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return CHRF() if metric == "chrf" else BLEU()


def _statistics(metric: str, texts: Texts) -> npt.NDArray[np.int64]:
    """Counts whose sums over texts give the score of the whole, (texts, counts), as sacrebleu's own tests take them."""
    generated, expected = [said for _, said in texts], [wanted for wanted, _ in texts]
    return np.array(_scorer(metric)._extract_corpus_statistics(generated, [expected]), dtype=np.int64)


def _of_all(metric: str, after: npt.NDArray[np.int64], before: npt.NDArray[np.int64] | None) -> Change:
    """The change of a score of all texts together, with how much each text contributes to it (jackknife), so that the
    interval is of one kind with those of means.

    With D_-i the change without text i, and n texts: c_i = D - (n - 1) (D_-i - mean_j D_-j).
    """
    scorer = _scorer(metric)

    def score(statistics: npt.NDArray[np.int64]) -> float:
        return float(scorer._compute_score_from_stats(statistics.sum(axis=0).tolist()).score) / 100

    if before is None:
        return Change(after=score(after))
    count, delta = len(after), score(after) - score(before)
    if count < 2:
        return _changed(score(before), score(after), None)
    without = [score(np.delete(after, i, 0)) - score(np.delete(before, i, 0)) for i in range(count)]
    change = -(count - 1) * (np.array(without) - np.mean(without)) + delta
    return mean_change(score(before), score(after), change, np.ones(count, dtype=np.int64), are_questions=False)
