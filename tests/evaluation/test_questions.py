from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.errors import CorpusError
from lingraft.evaluation.multiple_choice import Question, answer, read_questions

pytestmark = pytest.mark.integration

QUESTIONS = [
    Question(context="the house has ", choices=["water", "fire", "a very long answer with many words"], answer=0),
    Question(context="", choices=["moon", "sun fish"], answer=1),
    Question(context="niño 🙂 " * 9, choices=["sol", "luna", "pez", "agua"], answer=2),
]


def naive_choice(model, tokenizer, question: Question) -> int:
    """The option whose own tokens are likeliest after the context, in float64, in one forward pass each."""
    likelihoods = []
    for choice in question.choices:
        context = [tokenizer.bos_token_id, *tokenizer(question.context, add_special_tokens=False).input_ids]
        ids = [tokenizer.bos_token_id, *tokenizer(question.context + choice, add_special_tokens=False).input_ids]
        with torch.no_grad():
            logits = model.double()(torch.tensor([ids])).logits[0].log_softmax(-1)
        likelihoods.append(sum(float(logits[i - 1, ids[i]]) for i in range(len(context), len(ids))))
    return int(np.argmax(likelihoods))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text"])
def test_the_likeliest_choice_after_the_context_is_the_answer(make_model, tokenizer, documents, architecture) -> None:
    model = make_model(architecture, max_position_embeddings=256)
    chosen = [naive_choice(model, tokenizer, question) for question in QUESTIONS]
    answers = answer(model.float(), documents, QUESTIONS, 256)
    assert answers.correct.tolist() == [is_ == question.answer for is_, question in zip(chosen, QUESTIONS, strict=True)]
    right = [Question(**{**q.model_dump(), "answer": is_}) for q, is_ in zip(QUESTIONS, chosen, strict=True)]
    assert answer(model, documents, right, 256).accuracy == 1


def test_without_a_bos_a_question_without_a_context_is_refused(make_model, tokenizer) -> None:
    documents = DocumentTokenizer(tokenizer, None, None)
    with pytest.raises(CorpusError, match="'moon' has no context, and documents of the model no BOS"):
        answer(make_model(), documents, QUESTIONS, 32)
    assert len(answer(make_model(), documents, QUESTIONS[:1], 32).correct) == 1


def test_chance_is_the_accuracy_of_guessing(make_model, documents) -> None:
    assert answer(make_model(), documents, QUESTIONS, 32).chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 4) / 3)


def test_questions_are_read_from_json_lines(tmp_path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(json.dumps({**q.model_dump(), "id": 7}) for q in QUESTIONS))
    assert read_questions([path]) == QUESTIONS


def test_questions_are_read_from_every_format_of_records(tmp_path) -> None:
    records = [q.model_dump() for q in QUESTIONS]
    (tmp_path / "q.json").write_text(json.dumps(records))
    parquet.write_table(pa.Table.from_pylist(records), tmp_path / "q.parquet")
    assert read_questions([tmp_path / "q.json"]) == read_questions([tmp_path / "q.parquet"]) == QUESTIONS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "q.jsonl:2: lines that are not JSON; here every record is needed"),
        ('{"context": "a", "choices": ["b", "c"]}', "q.jsonl:2: answer: Field required; a question is {"),
        ('{"context": "a", "choices": ["b"], "answer": 0}', "q.jsonl:2: choices: List should have at least 2 items"),
        ('{"context": "a", "choices": ["b", "c"], "answer": 2}', "'answer' is 2, the options are counted from 0 to 1"),
        ('{"context": "a", "choices": ["b", "c"], "answer": "b"}', "answer: Input should be a valid integer"),
        ('{"context": "a", "choices": ["b", "b"], "answer": 0}', "two options are the same"),
        ('{"context": "", "choices": ["b", ""], "answer": 0}', "an option without a context is empty"),
        ('{"context": "a", "choices": ["b", "\\ud800"], "answer": 0}', "this is not valid Unicode"),
        (
            '{"context": "a", "choices": ["b", "c"], "answer": 0, "answer": 1}',
            "q.jsonl:2: records that give a field twice",
        ),
        (
            '{"context": "a", "choices": ["b", "c"], "answer": NaN}',
            "q.jsonl:2: answer: Input should be a valid integer",
        ),
        (
            '{"context": "a", "choices": ["b", "c"], "answer": ' + "1" * 5000 + "}",
            "q.jsonl:2: records with a number of too",
        ),
        ("[" * 3000 + "]" * 3000, "q.jsonl:2: records that are nested too deeply"),
        ("[1]", "q.jsonl:2: Input should be a valid dictionary"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, line, message) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(QUESTIONS[0].model_dump()) + "\n" + line + "\n")
    with pytest.raises(CorpusError) as error:
        read_questions([path])
    assert message in str(error.value)


def test_a_file_without_questions_is_refused(tmp_path) -> None:
    (tmp_path / "q.jsonl").write_text("\n")
    with pytest.raises(CorpusError, match="there is no record"):
        read_questions([tmp_path / "q.jsonl"])


def test_a_file_that_breaks_off_is_refused(tmp_path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(json.dumps(QUESTIONS[0].model_dump()).encode() + b"\n\xff\xfe\n")
    with pytest.raises(CorpusError, match=r"q.jsonl:2: lines that are not UTF-8; here every record"):
        read_questions([path])
