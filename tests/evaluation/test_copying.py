"""In-context copying: the share of the second occurrence of words that a model predicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lingraft.errors import UserError
from lingraft.evaluation import COPYING
from lingraft.evaluation.copying import WORDS, Copying, copied, draw_sequences
from lingraft.evaluation.questions import TaskFiles, read_tasks
from lingraft.evaluation.suites import list_abilities
from lingraft.evaluation.task_scores import Scores
from lingraft.evaluation.words import LONGEST, words_of

WORDS_OF_A_TEXT = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "su") for b in ("ra", "te", "vi", "po", "du")]
TEXT = " ".join(WORDS_OF_A_TEXT)


def test_a_sequence_has_words_of_the_text_in_another_order_and_none_twice() -> None:
    one, other = draw_sequences(WORDS_OF_A_TEXT, 2)
    assert one != other
    assert len(set(one.split())) == len(one.split()) == WORDS
    assert set(one.split()) <= set(WORDS_OF_A_TEXT)
    assert draw_sequences(WORDS_OF_A_TEXT, 2) == [one, other]


@pytest.mark.parametrize("text", ["", "one two three", " ".join(map(str, range(100)))])
def test_a_text_of_too_few_words_is_not_asked(text) -> None:
    assert list_abilities({"eng_Latn": [text]}, 3) == []
    assert list_abilities({"eng_Latn": [TEXT]}, 0) == []
    assert [list(suite.sequences) for suite in list_abilities({"eng_Latn": [TEXT], "swh_Latn": [text]}, 3)] == [
        ["eng_Latn"],
        ["eng_Latn"],
    ]


def test_words_of_any_script_count_and_long_ones_are_cut() -> None:
    hindi = " ".join(f"कि{a}{b}" for a in "कखगघच" for b in "पफबभम")
    thai = "".join(chr(0x0E01 + (i * i) % 37) for i in range(40 * LONGEST))
    assert len(draw_sequences(words_of([hindi]), 1)[0].split()) == WORDS
    assert max(map(len, draw_sequences(words_of([thai]), 1)[0].split())) == LONGEST


def test_the_share_is_of_greedy_predictions_of_the_second_occurrence_but_its_first_token(make_model, documents) -> None:
    model, sequences = make_model().eval(), draw_sequences(WORDS_OF_A_TEXT, 3)
    for share, ids in zip(copied(model, documents, sequences, 512), documents.encode(sequences), strict=True):
        (between,) = documents.encode(["\n"])
        row = torch.tensor([[*documents.bos_ids, *ids, *between, *ids]])
        best = model(row).logits[0].argmax(-1)
        assert share == pytest.approx(float((best[-len(ids) : -1] == row[0, -len(ids) + 1 :]).float().mean()))


def test_a_model_that_reads_its_context_has_all(make_model, documents, monkeypatch) -> None:
    """One that gives what followed the last occurrence of a token, planted by hand."""
    model = make_model()
    rows: list[list[int]] = []

    def follows(hidden: torch.Tensor) -> torch.Tensor:
        row = rows.pop(0)
        start = len(row) - 1 - len(hidden)
        next_of = {token: row[at + 1] for at, token in enumerate(row[: start + 1])}
        best = torch.tensor([next_of[token] for token in row[start:-1]])
        return torch.nn.functional.one_hot(best, model.config.vocab_size).float()

    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: rows.extend(kwargs["input_ids"].tolist()), with_kwargs=True
    )
    monkeypatch.setattr(model.get_output_embeddings(), "forward", follows)
    assert copied(model, documents, ["abcdefghijklm", "nopqrstuvwxyz"], 512).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("max_length", [8, 33, 64])
def test_a_sequence_stands_twice_within_the_context(make_model, documents, max_length) -> None:
    model = make_model(max_position_embeddings=max_length)
    seen = []
    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    copied(model, documents, draw_sequences(WORDS_OF_A_TEXT, 2), max_length)
    assert max(seen) <= max_length


def test_its_measurement_survives_json(make_model, documents) -> None:
    suite = Copying({"eng_Latn": draw_sequences(WORDS_OF_A_TEXT, 3)})
    measured = suite.measure(make_model(), documents, 64)
    again = suite.from_json(suite.to_json(measured))["eng_Latn"]
    assert np.array_equal(again.values["acc"], measured["eng_Latn"].values["acc"])


def test_what_a_retained_language_loses_is_forgetting() -> None:
    suite = Copying({"eng_Latn": ["a"] * 2, "swh_Latn": ["a"] * 2})
    before = {"eng_Latn": Scores({"acc": np.array([0.8, 0.6])}), "swh_Latn": Scores({"acc": np.array([0.2, 0.4])})}
    after = {"eng_Latn": Scores({"acc": np.array([0.5, 0.7])}), "swh_Latn": Scores({"acc": np.array([0.4, 0.4])})}
    task = suite.compare(after, before, {"eng_Latn": "retain", "swh_Latn": "learn"})["tasks"][COPYING]
    assert task.forgetting == pytest.approx(0.1)
    assert task.learning == pytest.approx(0.1)


def test_a_task_of_ones_own_cannot_have_its_name() -> None:
    with pytest.raises(UserError, match="another name"):
        read_tasks({COPYING: TaskFiles.model_construct(files={"eng_Latn": ["questions.jsonl"]})})
