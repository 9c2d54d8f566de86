"""Before and after -> `results.json`: per language and task, and learning and forgetting as two numbers.

learning   = mean over learned languages of  1 - after / before
forgetting = mean over retained languages of  after / before - 1      (of bits per byte)

Of a task, both are in points of accuracy: after - before over learned languages, before - after
over retained ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lingraft.evaluation import Role, Roles
from lingraft.evaluation.bits_per_byte import DocumentScores
from lingraft.evaluation.measure import EvaluationSet, Measurement
from lingraft.evaluation.multiple_choice import Answers

Numbers = npt.NDArray[np.float64]

RESAMPLES = 2000


def delta_interval(change: Numbers, size: npt.NDArray[np.int64], seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of sum(change) / sum(size): a paired bootstrap over documents or questions.

    `change` is the difference of each between before and after, `size` what it counts for, both
    (n,); each resample draws n of them. One alone has no interval: it says nothing of others.
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


def compare(on: EvaluationSet, after: Measurement, before: Measurement | None, roles: Roles) -> dict[str, Any]:
    """The part of `results.json` that is measured: `languages`, `tasks`, `samples`, and the sums.

    Without `before` only `after` is written. A language without a role is `observe`.
    """
    languages = {
        code: _language(roles.get(code, "observe"), scores, before.scores[code] if before else None)
        for code, scores in after.scores.items()
    }
    tasks = {
        name: _task(by_language, before.answers[name] if before else None, roles)
        for name, by_language in after.answers.items()
    }
    result: dict[str, Any] = {"languages": languages, "tasks": tasks, "samples": _samples(on, after, before)}
    return {**result, **(_learned_and_forgotten(after, before, roles) if before else {})}


def summarize(after: Measurement, before: Measurement, roles: Roles) -> dict[str, Any]:
    """Bits per byte by language, and learning and forgetting: one entry of `steps` in `results.json`."""
    bits = {code: scores.bits_per_byte for code, scores in after.scores.items()}
    return {"languages": bits, **_learned_and_forgotten(after, before, roles)}


def _learned_and_forgotten(after: Measurement, before: Measurement, roles: Roles) -> dict[str, float]:
    ratio = {code: scores.bits_per_byte / before.scores[code].bits_per_byte for code, scores in after.scores.items()}
    return _sums({code: 1 - of for code, of in ratio.items()}, roles)


def _sums(gains: Mapping[str, float], roles: Roles) -> dict[str, float]:
    """Mean gain over learned languages, mean loss over retained ones, where there are any."""
    learned = [gain for code, gain in gains.items() if roles.get(code) == "learn"]
    forgotten = [-gain for code, gain in gains.items() if roles.get(code) == "retain"]
    return {
        **({"learning": float(np.mean(learned))} if learned else {}),
        **({"forgetting": float(np.mean(forgotten))} if forgotten else {}),
    }


def _language(role: Role, after: DocumentScores, before: DocumentScores | None) -> dict[str, Any]:
    def pair(of: Callable[[DocumentScores], float]) -> dict[str, Any]:
        return {**({"before": of(before)} if before else {}), "after": of(after)}

    entry: dict[str, Any] = {
        "role": role,
        "bytes": int(after.num_bytes.sum()),
        "tokens": pair(lambda s: int(s.num_tokens.sum())),
        "bits_per_byte": pair(lambda s: s.bits_per_byte),
        "perplexity": pair(lambda s: s.perplexity),
    }
    if before:
        bits = (after.nats - before.nats) / math.log(2)
        delta = after.bits_per_byte - before.bits_per_byte
        entry["bits_per_byte"] |= _change(delta, delta_interval(bits, before.num_bytes))
    return entry


def _change(delta: float, interval: tuple[float, float] | None) -> dict[str, Any]:
    """A change, and its interval where there is one."""
    return {"delta": delta, **({"ci95": list(interval)} if interval else {})}


def _task(after: Mapping[str, Answers], before: Mapping[str, Answers] | None, roles: Roles) -> dict[str, Any]:
    languages: dict[str, dict[str, Any]] = {}
    for code, answers in after.items():
        accuracy: dict[str, Any] = {"after": answers.accuracy}
        if before:
            was = before[code]
            change = answers.correct.astype(float) - was.correct
            interval = delta_interval(change, np.ones(len(change), dtype=np.int64))
            delta = answers.accuracy - was.accuracy
            accuracy = {"before": was.accuracy, **accuracy, **_change(delta, interval)}
        languages[code] = {
            "role": roles.get(code, "observe"),
            "questions": len(answers.correct),
            "chance": answers.chance,
            "accuracy": accuracy,
        }
    gains = {code: of["accuracy"]["delta"] for code, of in languages.items()} if before else {}
    return {"metric": "accuracy", "languages": languages, **_sums(gains, roles)}


def _samples(on: EvaluationSet, after: Measurement, before: Measurement | None) -> list[dict[str, str]]:
    """The same prompts continued by both, and by the text that they were taken from."""
    return [
        {
            "language": code,
            "prompt": prompt.text,
            "text": prompt.rest,
            **({"before": before.continuations[code][i]} if before else {}),
            "after": after.continuations[code][i],
        }
        for code, prompts in on.prompts.items()
        for i, prompt in enumerate(prompts)
    ]
