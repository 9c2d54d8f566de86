"""Before and after -> `results.json`: per language, and learning and forgetting as two numbers.

learning   = mean over learned languages of  1 - after / before
forgetting = mean over retained languages of  after / before - 1      (of bits per byte)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from lingraft.evaluation.bits_per_byte import DocumentScores

Role = Literal["learn", "retain", "heldout"]

RESAMPLES = 2000


def delta_interval(before: DocumentScores, after: DocumentScores, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the change in bits per byte: a paired bootstrap over documents.

    Each resample draws the same documents for both. One document gives an interval of one point.
    """
    documents = len(before.nats)
    random = np.random.default_rng(seed)
    change = (after.nats - before.nats) / math.log(2)
    deltas = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = random.integers(0, documents, documents)
        deltas[i] = change[drawn].sum() / before.num_bytes[drawn].sum()
    low, high = np.quantile(deltas, [0.025, 0.975])
    return float(low), float(high)


def compare(
    after: Mapping[str, DocumentScores],
    before: Mapping[str, DocumentScores] | None,
    roles: Mapping[str, Role],
) -> dict[str, Any]:
    """The part of `results.json` that is measured: `languages`, and the sums where roles give them.

    Without `before` only `after` is written. A language without a role is `heldout`.
    """
    languages = {
        code: _language(roles.get(code, "heldout"), after[code], before[code] if before else None) for code in after
    }
    result: dict[str, Any] = {"languages": languages, "tasks": {}}
    if before:
        ratio = {code: after[code].bits_per_byte / before[code].bits_per_byte for code in after}
        learned = [1 - ratio[code] for code in after if roles.get(code) == "learn"]
        forgotten = [ratio[code] - 1 for code in after if roles.get(code) == "retain"]
        if learned:
            result["learning"] = float(np.mean(learned))
        if forgotten:
            result["forgetting"] = float(np.mean(forgotten))
    return result


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
        entry["bits_per_byte"]["delta"] = after.bits_per_byte - before.bits_per_byte
        entry["bits_per_byte"]["ci95"] = list(delta_interval(before, after))
    return entry
