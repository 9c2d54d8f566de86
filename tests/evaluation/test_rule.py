"""In-context learning: the answers that a rule of the context gives, by the number of examples."""

from __future__ import annotations

import json

import pytest
import torch

from lingraft.evaluation import RULE
from lingraft.evaluation.rule import LINES, InContextLearning, answered, draw_lines

pytestmark = pytest.mark.integration

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "su") for b in ("ra", "te", "vi", "po", "du")]


def test_a_line_has_different_words_and_no_line_comes_twice() -> None:
    one, other = draw_lines(WORDS, 2)
    assert one != other
    assert len(one) == LINES == len(set(one))
    assert all(len(set(line.split())) == 3 for line in one)
    assert draw_lines(WORDS, 2) == [one, other]


def test_the_share_is_of_greedy_predictions_of_each_answer(make_model, documents) -> None:
    model, (lines,) = make_model(max_position_embeddings=512).eval(), draw_lines(WORDS, 1)
    (shares,) = answered(model, documents, [lines], 512)
    assert len(shares) == LINES
    text, expected = "", []
    for line in lines:
        answer = line.split()[-1]
        ids = torch.tensor([[*documents.bos_ids, *documents.encode([f"{text}{line} = {answer}"])[0]]])
        count = len(documents.encode([f" {answer}"])[0])
        best = model(ids).logits[0].argmax(-1)
        expected.append(float((best[-count - 1 : -1] == ids[0, -count:]).float().mean()))
        text += f"{line} = {answer}\n"
    assert shares.tolist() == pytest.approx(expected)


def test_as_many_lines_count_as_the_context_holds(make_model, documents) -> None:
    model, seen = make_model(max_position_embeddings=64), []
    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    shares = answered(model, documents, draw_lines(WORDS, 2), 64)
    assert 2 <= shares.shape[1] < LINES
    assert max(seen) <= 64
    assert InContextLearning({"eng_Latn": draw_lines(WORDS, 2)}).measure(model, documents, 16) == {}


def test_the_score_is_of_the_second_half_and_the_curve_of_all(make_model, documents) -> None:
    model, suite = make_model(max_position_embeddings=512), InContextLearning({"eng_Latn": draw_lines(WORDS, 3)})
    measured = suite.measure(model, documents, 512)
    shares = answered(model, documents, draw_lines(WORDS, 3), 512)
    again = suite.from_json(json.loads(json.dumps(suite.to_json(measured))))
    task = suite.compare(again, measured, {"eng_Latn": "retain"})["tasks"][RULE]
    english = task.languages["eng_Latn"]
    assert english.score.after == pytest.approx(shares[:, LINES // 2 :].mean())
    assert english.by_examples.after == english.by_examples.before == pytest.approx(shares.mean(axis=0).tolist())
    assert task.forgetting == 0


def test_a_language_whose_lines_differ_in_number_is_not_compared(make_model, documents) -> None:
    suite = InContextLearning({"eng_Latn": draw_lines(WORDS, 2)})
    few, many = (suite.measure(make_model(max_position_embeddings=512), documents, length) for length in (64, 512))
    assert suite.compare(many, few, {})["tasks"][RULE].languages == {}
    assert suite.compare(many, many, {})["tasks"][RULE].languages.keys() == {"eng_Latn"}
