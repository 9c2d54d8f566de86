from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.errors import CorpusError, UserError
from lingraft.evaluation.multiple_choice import answer
from lingraft.evaluation.open_questions import exact_match, last_number
from lingraft.evaluation.questions import OpenQuestion, Question, TaskFiles, read_questions, read_tasks

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
    assert right_of(answers) == [is_ == question.answer for is_, question in zip(chosen, QUESTIONS, strict=True)]
    right = [Question(**{**q.model_dump(), "answer": is_}) for q, is_ in zip(QUESTIONS, chosen, strict=True)]
    assert all(right_of(answer(model, documents, right, 256)))


def right_of(scores, metric: str = "acc") -> list[bool]:
    return (scores.values[metric] == 1).tolist()


def test_without_a_bos_a_question_without_a_context_comes_after_eos(make_model, tokenizer) -> None:
    model = make_model().float()
    of_bos = DocumentTokenizer(tokenizer, tokenizer.eos_token, tokenizer.eos_token)  # the same token, as BOS
    expected = right_of(answer(model, of_bos, QUESTIONS[1:2], 32))
    documents = DocumentTokenizer(tokenizer, None, tokenizer.eos_token)
    assert right_of(answer(model, documents, [QUESTIONS[0], QUESTIONS[1]], 32))[1:] == expected
    with pytest.raises(CorpusError, match="'moon' has no context, and documents of the model neither BOS nor EOS"):
        answer(model, DocumentTokenizer(tokenizer, None, None), QUESTIONS, 32)
    assert len(right_of(answer(model, DocumentTokenizer(tokenizer, None, None), QUESTIONS[:1], 32))) == 1


def test_normalised_accuracy_divides_by_bytes_after_the_context(make_model, tokenizer, documents) -> None:
    model = make_model(max_position_embeddings=256).float()
    chosen = []
    for question in QUESTIONS:
        costs = []
        for option in question.choices:
            ids = [tokenizer.bos_token_id, *tokenizer(question.context + option, add_special_tokens=False).input_ids]
            start = 1 + len(tokenizer(question.context, add_special_tokens=False).input_ids)
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            costs.append(-sum(float(logits[i - 1, ids[i]]) for i in range(start, len(ids))) / len(option.encode()))
        chosen.append(int(np.argmin(costs)))
    both = answer(model, documents, QUESTIONS, 256, metrics=["acc", "acc_norm"])
    assert right_of(both, "acc_norm") == [is_ == q.answer for is_, q in zip(chosen, QUESTIONS, strict=True)]
    assert right_of(both) == right_of(answer(model, documents, QUESTIONS, 256))
    right = [Question(**{**q.model_dump(), "answer": is_}) for q, is_ in zip(QUESTIONS, chosen, strict=True)]
    assert all(right_of(answer(model, documents, right, 256, metrics=["acc_norm"]), "acc_norm"))


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


OPEN = [
    OpenQuestion(context="Swali: Mbili na tatu?\nJibu:", answer="5"),
    OpenQuestion(context="Swali: Nyumba?\nJibu:", answer=["house", "home"]),
]


def write(path, questions) -> str:
    path.write_text("\n".join(json.dumps(q.model_dump()) for q in questions))
    return str(path)


def test_open_questions_are_those_whose_answer_is_text(tmp_path) -> None:
    assert read_questions([tmp_path / write(tmp_path / "q.jsonl", OPEN)]) == OPEN
    assert OPEN[0].shown == "Swali: Mbili na tatu?\nJibu: 5"
    assert OPEN[1].answer == ["house", "home"]


def test_worked_examples_stand_before_each_question(tmp_path) -> None:
    files = {"files": {"swh_Latn": [write(tmp_path / "q.jsonl", QUESTIONS[:2])]}, "shots": 1}
    files["examples"] = {"swh_Latn": [write(tmp_path / "e.jsonl", QUESTIONS[2:])]}
    task = read_tasks({"cloze": TaskFiles.model_validate(files)})["cloze"]
    assert task.contexts("swh_Latn")[0] == f"{'niño 🙂 ' * 9}pez\n\nthe house has "
    assert not task.is_open


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"files": {"swh_Latn": "MIXED"}}, "it has open questions and such with 'choices'; make two tasks"),
        ({"files": {"swh_Latn": "OPEN"}, "metric": "acc"}, "open questions have no 'acc'; allowed are exact_match"),
        (
            {"files": {"swh_Latn": "CHOICES"}, "metric": "chrf"},
            "'choices' have no 'chrf'; allowed are acc",
        ),
        ({"files": {"swh_Latn": "CHOICES"}, "chat": True}, "'chat' asks open questions, and these have 'choices'"),
        ({"files": {"swh_Latn": "OPEN"}, "shots": 2}, "'shots' without 'examples'"),
        (
            {"files": {"swh_Latn": "OPEN"}, "examples": {"eng_Latn": "OPEN"}},
            "'examples' names eng_Latn, of which there are no questions",
        ),
        (
            {"files": {"swh_Latn": "OPEN"}, "examples": {"swh_Latn": "OPEN"}},
            "an example of swh_Latn is a question too: 'Swali: ",
        ),
        (
            {"files": {"swh_Latn": "OPEN", "eng_Latn": "OPEN"}, "examples": {"swh_Latn": "MORE"}},
            "eng_Latn has no 'examples', and some are to be shown",
        ),
        (
            {"files": {"swh_Latn": "OPEN"}, "examples": {"swh_Latn": "MORE"}, "shots": 3},
            "swh_Latn has 1 examples, and 3 are to be shown",
        ),
    ],
)
def test_a_task_that_cannot_be_asked_says_why(tmp_path, keys, message) -> None:
    names = {
        "OPEN": write(tmp_path / "open.jsonl", OPEN),
        "CHOICES": write(tmp_path / "choices.jsonl", QUESTIONS),
        "MORE": write(tmp_path / "more.jsonl", [OpenQuestion(context="Swali: Maji?\nJibu:", answer="water")]),
        "MIXED": write(tmp_path / "mixed.jsonl", [*OPEN, *QUESTIONS]),
    }
    given = {
        key: {code: names[name] for code, name in value.items()} if isinstance(value, dict) else value
        for key, value in keys.items()
    }
    with pytest.raises((UserError, ValueError), match=message):
        read_tasks({"mine": TaskFiles.model_validate(given)})


@pytest.mark.parametrize(
    ("generated", "right"),
    [("House.", True), ("  «house»", True), ("a house", False), ("HOME !", True), ("", False), ("ｈｏｕｓｅ", True)],
)
def test_an_exact_match_is_the_same_words(generated, right) -> None:
    assert exact_match(generated, ["house", "home"]) == right


@pytest.mark.parametrize(
    ("generated", "number", "right"),
    [
        ("2 + 3 = 5", "5", True),
        ("5 fish, so 5.0.", "5", True),
        ("It is 1,200 dollars", "1200", True),
        ("It is 1,200 dollars", "200", False),
        ("٥", "5", True),  # Arabic-Indic
        ("۱۲٬۰۰۰", "12000", True),  # Persian
        ("−3", "-3", True),
        ("in 2024 they were 7", "2024", False),
        ("none", "0", False),
        ("५", "5", True),  # Devanagari
    ],
)
def test_the_last_number_counts(generated, number, right) -> None:
    assert last_number(generated, [number]) == right


@pytest.mark.parametrize("chat", [False, True])
def test_open_questions_are_answered_greedily(chat_base, tmp_path, chat) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lingraft.evaluation.open_questions import OpenQuestions

    model, tokenizer = AutoModelForCausalLM.from_pretrained(chat_base), AutoTokenizer.from_pretrained(chat_base)
    given = {"files": {"swh_Latn": write(tmp_path / "q.jsonl", OPEN)}, "chat": chat, "max_tokens": 8}
    given["metric"] = ["exact_match", "last_number", "chrf"]
    task = read_tasks({"sums": TaskFiles.model_validate(given)})["sums"]
    suite = OpenQuestions("sums", task)
    documents = DocumentTokenizer(tokenizer, tokenizer.bos_token, tokenizer.eos_token)
    scores = suite.measure(model, documents, 64)["swh_Latn"]
    assert [expected for expected, _ in scores.texts] == ["5", "house"]
    results = suite.compare({"swh_Latn": scores}, None, {})["tasks"]
    assert results.keys() == {"sums, exact_match", "sums, last_number", "sums, chrf"}
    context = OPEN[0].context
    if chat:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": context}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    else:
        ids = tokenizer(tokenizer.bos_token + context, add_special_tokens=False, return_tensors="pt").input_ids
    made = model.generate(ids, do_sample=False, max_new_tokens=8)[0, ids.shape[1] :]
    by_hand = tokenizer.decode(made, skip_special_tokens=True).strip()
    assert scores.texts[0][1] == (by_hand if chat else by_hand.partition("\n")[0].strip())
    long = {**given, "max_tokens": 512}
    suite = OpenQuestions("sums", read_tasks({"sums": TaskFiles.model_validate(long)})["sums"])
    with pytest.raises(UserError, match="do not fit the model's context of 512; give fewer 'shots'"):
        suite.measure(model, documents, 64)
