from __future__ import annotations

import math

import numpy as np
import pytest

from lingraft.evaluation import paired_changes
from lingraft.evaluation.bits_per_byte import BitsPerByte, DocumentScores
from lingraft.evaluation.multiple_choice import MultipleChoice
from lingraft.evaluation.questions import OwnTask
from lingraft.evaluation.samples import Continuations, Prompt
from lingraft.evaluation.suite import Suite
from lingraft.evaluation.task_scores import Scores
from lingraft.schema import Record


def scores(bits: float, documents: int = 40, noise: float = 0.0, seed: int = 0) -> DocumentScores:
    """Documents of 100 bytes that cost `bits` per byte, plus noise that differs between documents."""
    each = bits + noise * np.random.default_rng(seed).standard_normal(documents)
    return DocumentScores(
        nats=each * 100 * math.log(2), num_bytes=np.full(documents, 100), num_tokens=np.full(documents, 25)
    )


def compared(suite: Suite, after: dict, before: dict | None, roles: dict) -> dict:
    """What a suite makes of two measurements, as JSON has it."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(of) for key, of in value.items()}
        return (
            [plain(of) for of in value]
            if isinstance(value, list)
            else value.to_json()
            if isinstance(value, Record)
            else value
        )

    return plain(suite.compare(after, before, roles))


def compare(after: dict, before: dict | None, roles: dict) -> dict:
    """Of scores alone."""
    return compared(BitsPerByte({}), after, before, roles)


CLOZE = MultipleChoice("cloze", OwnTask({}, ["acc"], {}))


def delta_interval(before: DocumentScores, after: DocumentScores) -> tuple[float, float]:
    """Of bits per byte."""
    return paired_changes.delta_interval((after.nats - before.nats) / math.log(2), before.num_bytes)


def test_learning_and_forgetting_are_means_of_relative_change() -> None:
    before = {"swh_Latn": scores(4), "glg_Latn": scores(2), "eng_Latn": scores(1), "spa_Latn": scores(2)}
    after = {"swh_Latn": scores(2), "glg_Latn": scores(1.5), "eng_Latn": scores(1.1), "spa_Latn": scores(2)}
    roles = {"swh_Latn": "learn", "glg_Latn": "learn", "eng_Latn": "retain", "spa_Latn": "retain"}
    result = compare(after, before, roles)
    assert result["learning"] == pytest.approx((0.5 + 0.25) / 2)
    assert result["forgetting"] == pytest.approx((0.1 + 0) / 2)


def test_without_roles_there_are_no_sums() -> None:
    result = compare({"eng_Latn": scores(1)}, {"eng_Latn": scores(1)}, {})
    assert result["languages"]["eng_Latn"]["role"] == "observe"
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


@pytest.mark.integration
@pytest.mark.parametrize("documents", [8, 40])
def test_the_interval_covers_the_true_change_about_95_times_in_100(documents) -> None:
    covered = 0
    for seed in range(200):
        low, high = delta_interval(
            scores(2, documents=documents), scores(1.9, documents=documents, noise=0.2, seed=seed)
        )
        covered += low <= -0.1 <= high
    assert 182 <= covered <= 198


@pytest.mark.integration
@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_of_pairs_of_translations_without_a_change_at_most_five_in_a_hundred_are_called_changed(metric) -> None:
    draw, words, called = np.random.default_rng(0), [f"neno{i}" for i in range(14)], 0

    def garbled(text: str) -> str:
        share = draw.beta(2, 3)
        return " ".join(draw.choice(words) if draw.random() < share else word for word in text.split())

    for _ in range(200):
        wanted = [" ".join(draw.choice(words, 8)) for _ in range(20)]
        after, before = ({"eng_Latn": [(text, garbled(text)) for text in wanted]} for _ in range(2))
        score = paired_changes.corpus_scores(metric, after, before, {}).languages["eng_Latn"].score
        called += score.ci95[0] > 0 or score.ci95[1] < 0
    assert 1 <= called <= 16  # 10, and two standard errors


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["documents of one size", "few large documents", "questions"])
def test_of_a_thousand_pairs_without_a_change_at_most_five_in_a_hundred_are_called_changed(kind) -> None:
    draw = np.random.default_rng(0)
    called = 0
    for _ in range(1000):
        if kind == "questions":
            change, size = draw.choice([-1.0, 0.0, 1.0], 100, p=[0.1, 0.8, 0.1]), np.ones(100, dtype=np.int64)
        else:
            size = draw.integers(90, 110, 12) if kind == "documents of one size" else draw.integers(1, 40, 12) ** 2
            change = size * draw.standard_t(3, 12) / 100
        ends = paired_changes.delta_interval(change, size, seed=int(draw.integers(1 << 30)))
        called += ends is not None and (ends[0] > 0 or ends[1] < 0)
    assert called <= 63  # 50, and two standard errors
    assert called >= 5  # it is no interval of everything


def test_the_interval_of_questions_is_mcnemars() -> None:
    """It leaves out no change where the two-sided binomial test of those that changed rejects it at 5 %."""
    for better, worse in [(6, 0), (5, 0), (9, 1), (10, 2), (12, 4), (20, 8), (20, 9)]:
        change = np.array([1.0] * better + [-1.0] * worse + [0.0] * (100 - better - worse))
        low, _ = paired_changes.delta_interval(change, np.ones(100, dtype=np.int64)) or (-1.0, 1.0)
        p = min(1, 2 * sum(math.comb(better + worse, i) for i in range(worse + 1)) / 2 ** (better + worse))
        assert (low > 0) == (p <= 0.05), (better, worse, p)


def test_the_smallest_change_that_shows_is_found_in_four_of_five_cases() -> None:
    draw, found, of = np.random.default_rng(0), 0, 200
    for _ in range(of):
        noise = draw.normal(0, 1, 60)
        least = paired_changes.least_shown(noise, np.ones(60, dtype=np.int64))
        low, _ = paired_changes.delta_interval(draw.normal(0, 1, 60) + least, np.ones(60, dtype=np.int64))
        found += low > 0
    assert found / of == pytest.approx(0.8, abs=0.08)
    assert paired_changes.least_shown(np.zeros(100), np.ones(100, dtype=np.int64)) == 0.06  # six of a hundred


def answers(right: int, of: int = 100) -> Scores:
    return Scores({"acc": (np.arange(of) < right).astype(float)}, 0.25)


def test_tasks_are_compared_in_points_of_accuracy() -> None:
    before = {"swh_Latn": answers(30), "eng_Latn": answers(90)}
    after = {"swh_Latn": answers(70), "eng_Latn": answers(75)}
    roles = {"swh_Latn": "learn", "eng_Latn": "retain"}
    task = compared(CLOZE, after, before, roles)["tasks"]["cloze"]
    assert task["metric"] == "acc"
    assert task["learning"] == pytest.approx(0.4)
    assert task["forgetting"] == pytest.approx(0.15)
    english = task["languages"]["eng_Latn"]
    assert (english["role"], english["questions"], english["chance"]) == ("retain", 100, 0.25)
    low, high = english["score"].pop("ci95")
    assert english["score"].pop("least_shown") == pytest.approx(2.8 * (0.15 * 0.85 / 99) ** 0.5)
    assert english["score"] == {"before": 0.9, "after": 0.75, "delta": pytest.approx(-0.15)}
    assert low == pytest.approx(-0.15 - 1.96 * (0.15 * 0.85 / 100) ** 0.5, abs=0.015)  # the binomial's
    assert high == pytest.approx(-0.15 + 1.96 * (0.15 * 0.85 / 100) ** 0.5, abs=0.015)


def test_tasks_without_a_base_have_only_after() -> None:
    after = {"eng_Latn": answers(75)}
    task = compared(CLOZE, after, None, {"eng_Latn": "retain"})["tasks"]["cloze"]
    assert task["languages"]["eng_Latn"]["score"] == {"after": 0.75}
    assert "forgetting" not in task


def test_samples_stand_side_by_side() -> None:
    suite = Continuations({"eng_Latn": [Prompt("the", " house"), Prompt("a", " moon")]})
    before, after = ({"eng_Latn": of} for of in ([" sun", " fish"], [" water", " fire"]))
    samples = compared(suite, after, before, {})["samples"]
    assert samples[1] == {"language": "eng_Latn", "prompt": "a", "text": " moon", "before": " fish", "after": " fire"}
    assert "before" not in compared(suite, after, None, {})["samples"][0]


def test_one_document_or_question_has_no_interval() -> None:
    """A bootstrap over one is a point, which says that there is no doubt where there is nothing but doubt."""
    assert paired_changes.delta_interval(np.array([0.5]), np.array([10])) is None
    assert paired_changes.delta_interval(np.full(5, 0.5), np.full(5, 10)) is None  # all signs alike: 1 in 16 draws
    assert paired_changes.delta_interval(np.full(8, 0.5), np.full(8, 10)) == pytest.approx((0.05, 0.05))
    one, question = {"eng_Latn": scores(2, documents=1)}, {"eng_Latn": answers(1, of=1)}
    bits = compare(one, one, {})["languages"]["eng_Latn"]["bits_per_byte"]
    assert bits == {"before": pytest.approx(2), "after": pytest.approx(2), "delta": 0}
    task = compared(CLOZE, question, question, {})["tasks"]["cloze"]
    assert task["languages"]["eng_Latn"]["score"] == {"before": 1, "after": 1, "delta": 0}
