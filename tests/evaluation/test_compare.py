from __future__ import annotations

import math

import numpy as np
import pytest

from lingraft.evaluation.bits_per_byte import DocumentScores
from lingraft.evaluation.compare import compare, delta_interval


def scores(bits: float, documents: int = 40, noise: float = 0.0, seed: int = 0) -> DocumentScores:
    """Documents of 100 bytes that cost `bits` per byte, plus noise that differs between documents."""
    each = bits + noise * np.random.default_rng(seed).standard_normal(documents)
    return DocumentScores(
        nats=each * 100 * math.log(2), num_bytes=np.full(documents, 100), num_tokens=np.full(documents, 25)
    )


def test_learning_and_forgetting_are_means_of_relative_change() -> None:
    before = {"swh_Latn": scores(4), "glg_Latn": scores(2), "eng_Latn": scores(1), "spa_Latn": scores(2)}
    after = {"swh_Latn": scores(2), "glg_Latn": scores(1.5), "eng_Latn": scores(1.1), "spa_Latn": scores(2)}
    roles = {"swh_Latn": "learn", "glg_Latn": "learn", "eng_Latn": "retain", "spa_Latn": "retain"}
    result = compare(after, before, roles)
    assert result["learning"] == pytest.approx((0.5 + 0.25) / 2)
    assert result["forgetting"] == pytest.approx((0.1 + 0) / 2)


def test_without_roles_there_are_no_sums() -> None:
    result = compare({"eng_Latn": scores(1)}, {"eng_Latn": scores(1)}, {})
    assert result["languages"]["eng_Latn"]["role"] == "heldout"
    assert "learning" not in result
    assert "forgetting" not in result


def test_without_a_base_only_after_is_given() -> None:
    entry = compare({"eng_Latn": scores(1.5)}, None, {})["languages"]["eng_Latn"]
    assert entry["bits_per_byte"] == {"after": pytest.approx(1.5)}
    assert set(entry["tokens"]) == set(entry["perplexity"]) == {"after"}


def test_the_interval_holds_the_change_and_is_the_same_each_time() -> None:
    before, after = scores(2, noise=0.3), scores(1.8, noise=0.3, seed=1)
    low, high = delta_interval(before, after)
    assert low < after.bits_per_byte - before.bits_per_byte < high
    assert (low, high) == delta_interval(before, after)


def test_documents_are_paired() -> None:
    """Documents that differ much, but change alike, leave no doubt about the change."""
    before, after = scores(2, noise=0.5), scores(1.8, noise=0.5)
    low, high = delta_interval(before, after)
    assert high - low == pytest.approx(0, abs=1e-9)


def test_the_interval_covers_the_true_change_about_95_times_in_100() -> None:
    covered = 0
    for seed in range(100):
        low, high = delta_interval(scores(2), scores(1.9, documents=40, noise=0.2, seed=seed))
        covered += low <= -0.1 <= high
    assert covered >= 88
