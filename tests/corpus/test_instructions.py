"""Conversations out of records: every form, every answer an example, what is none counted by reason."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from lingraft.corpus.instructions import Conversation, read_conversations
from lingraft.corpus.read import DroppedText
from lingraft.errors import CorpusError


def said(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


@pytest.fixture
def conversations(tmp_path):
    def of(*records, name="instructions.jsonl"):
        path = tmp_path / name
        if path.suffix == ".parquet":
            parquet.write_table(pa.Table.from_pylist(list(records)), path)
        else:
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
        dropped = DroppedText()
        return list(read_conversations([path], dropped)), dropped

    return of


@pytest.fixture
def read(conversations):
    def of(*records, name="instructions.jsonl"):
        found, dropped = conversations(*records, name=name)
        return [conversation.messages for conversation in found], dropped

    return of


def test_instruction_and_input_are_the_question(read) -> None:
    records = [{"instruction": "a", "input": given, "output": "b"} for given in ("c", "", None)]
    found, dropped = read(
        *records, {"instruction": "a", "output": "b"}, {"instruction": "", "input": "a", "output": "b"}
    )
    questions = ["a\n\nc", "a", "a", "a", "a"]
    assert found == [said(("user", question), ("assistant", "b")) for question in questions]
    assert not dropped


WHOLE = said(("system", "s"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"))
FORMS = {
    "messages": {"messages": WHOLE},
    "messages, system beside them": {"messages": WHOLE[1:], "system": "s"},
    "messages, the same system beside them": {"messages": WHOLE, "system": "s"},
    "a developer's message": {"messages": [{**WHOLE[0], "role": "developer"}, *WHOLE[1:]]},
    "parts of a message": {
        "messages": [{"role": of["role"], "content": [{"type": "text", "text": of["content"]}]} for of in WHOLE]
    },
    "empty fields": {"messages": [{**of, "tool_calls": None, "name": ""} for of in WHOLE], "tools": [], "images": None},
    "sharegpt": {
        "conversations": [
            {"from": who, "value": what}
            for who, what in (("system", "s"), ("human", "1"), ("gpt", "2"), ("human", "3"), ("gpt", "4"))
        ]
    },
    "sharegpt, system beside it": {
        "conversations": [{"from": of["role"], "value": of["content"]} for of in WHOLE[1:]],
        "system": "s",
    },
    "conversations with roles": {"conversations": WHOLE},
    "alpaca": {"instruction": "3", "input": "", "output": "4", "system": "s", "history": [["1", "2"]]},
    "system_prompt": {"instruction": "3", "output": "4", "system_prompt": "s", "history": [["1", "2"]]},
    "trl's prompt": {"prompt": WHOLE[:4], "completion": WHOLE[4:]},
}


@pytest.mark.parametrize("name", ["instructions.jsonl", "instructions.json", "instructions.parquet"])
@pytest.mark.parametrize("record", FORMS.values(), ids=FORMS)
def test_every_form_of_a_conversation_gives_the_same_messages(read, name, record) -> None:
    found, dropped = read(record, name=name)
    assert found == [WHOLE]
    assert not dropped
    assert not dropped.unused


def test_prompt_and_completion_as_texts_are_a_question_and_an_answer(read) -> None:
    assert read({"prompt": "a", "completion": "b"})[0] == [said(("user", "a"), ("assistant", "b"))]


def test_what_is_said_in_a_history_is_learned_as_by_those_who_defined_it(conversations) -> None:
    (one,), _ = conversations(FORMS["alpaca"])
    assert one.examples == [
        {"prompt": WHOLE[:2], "completion": WHOLE[2:3]},
        {"prompt": WHOLE[:4], "completion": WHOLE[4:]},
    ]


def test_all_texts_of_a_record_are_there_to_be_compared_with_what_is_measured(conversations) -> None:
    record = {"instruction": "a", "input": "b", "output": "c", "system": "s", "history": [["1", "2"]]}
    (one,), _ = conversations(record)
    assert one.texts == ["s", "1", "2", "a", "b", "c"]


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}])
@pytest.mark.parametrize("name", ["instructions.jsonl", "instructions.parquet"])
def test_an_answer_that_is_not_to_be_learned_is_context(conversations, mark, name) -> None:
    (one,), dropped = conversations({"messages": [*WHOLE[:2], {**WHOLE[2], **mark}, *WHOLE[3:]]}, name=name)
    assert one.messages == WHOLE
    assert one.examples == [{"prompt": WHOLE[:4], "completion": WHOLE[4:]}]
    assert not dropped


def test_of_a_prompt_of_messages_no_answer_is_learned(conversations) -> None:
    (one,), _ = conversations(FORMS["trl's prompt"])
    assert one.examples == [{"prompt": WHOLE[:4], "completion": WHOLE[4:]}]


def test_messages_are_taken_as_they_are_up_to_the_last_answer(read) -> None:
    messages = said(("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v"))
    found, _ = read({"messages": messages})
    assert found == [messages[:3]]


def test_every_answer_is_learned_after_all_that_was_said_before_it() -> None:
    messages = said(("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"))
    examples = Conversation(messages, []).examples
    assert examples == [
        {"prompt": messages[:1], "completion": [messages[1]]},
        {"prompt": messages[:3], "completion": [messages[3]]},
    ]


def test_what_the_assistant_says_before_any_question_is_no_answer(read) -> None:
    messages = said(("assistant", "hello"), ("user", "1"), ("assistant", "2"))
    found, _ = read({"messages": messages})
    assert Conversation(found[0], []).examples == [{"prompt": messages[:2], "completion": [messages[2]]}]


def test_columns_without_a_value_are_as_columns_that_are_not_there(read) -> None:
    found, dropped = read({"messages": None, "instruction": "a", "input": None, "output": "b"})
    assert found == [said(("user", "a"), ("assistant", "b"))]
    assert not dropped


def test_fields_that_no_form_knows_are_told_and_those_that_say_where_it_is_from_are_not(conversations) -> None:
    record = {"messages": [{**of, "mood": "good", "id": 1} for of in WHOLE], "response": "x", "source": "y", "id": 3}
    _, dropped = conversations(record, record)
    assert dropped.unused == {"response": 2, "messages.mood": 10}
    assert not dropped


GOOD = {"instruction": "a", "output": "b"}
ASKED = {"role": "user", "content": "a"}
ANSWER = {"role": "assistant", "content": "b"}
FORMLESS = (
    "records in none of the forms 'messages', 'conversations', 'instruction' with 'output', 'prompt' with 'completion'"
)


def answered(**more):
    return {"messages": [ASKED, {**ANSWER, **more}]}


BAD = [
    ("lines that are not a JSON object", ["text"]),
    (FORMLESS, {"instruction": "a"}),
    (FORMLESS, {"prompt": "a", "output": "b"}),
    ("records whose 'input' is not text", {"instruction": "a", "input": ["c"], "output": "b"}),
    ("records whose 'output' is not text", {"instruction": "a", "output": 5}),
    ("records whose 'system' is not text", {**GOOD, "system": ["s"]}),
    ("records with 'system' and another system turn", {"messages": WHOLE, "system": "t"}),
    ("records whose 'history' is not a list of pairs, [question, answer] each", {**GOOD, "history": [["1"]]}),
    ("records whose 'history' is not a list of pairs, [question, answer] each", {**GOOD, "history": "1"}),
    ("records whose 'messages' is not a list", {"messages": "a"}),
    ("records whose 'conversations' is not a list", {"conversations": {"from": "human"}}),
    ("records whose 'prompt' is not a list", {"prompt": 5, "completion": "b"}),
    ("records whose 'messages' are not all objects", {"messages": ["a"]}),
    ("messages without a text as 'content'", {"messages": [{"role": "user"}]}),
    ("messages without a text as 'content'", {"messages": [{"role": "user", "content": 5}]}),
    ("messages with a part of type 'image_url' in 'content': only text is learned",
     {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}, ANSWER]}),
    ("messages with a text part without 'text'", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
    ("messages whose 'role' is tool: tools are not learned", {"messages": said(("tool", "a"))}),
    ("messages whose 'role' is observation: tools are not learned",
     {"conversations": [{"from": "observation", "value": "a"}]}),
    ("messages with 'tool_calls': tools are not learned", answered(tool_calls=[{"id": "1"}])),
    ("messages with 'function_call': tools are not learned", answered(function_call={"name": "f"})),
    ("messages with 'reasoning_content': thoughts are not learned", answered(reasoning_content="hm")),
    ("messages with 'refusal': refusals are not learned", answered(refusal="no")),
    ("messages with 'name': names of those who speak are not learned", answered(name="Ada")),
    ("messages with 'train_detail': parts of an answer are not learned", answered(train_detail=[{"train": True}])),
    ("records with 'tools': tools are not learned", {**GOOD, "tools": [{"name": "f"}]}),
    ("records with 'functions': tools are not learned", {"messages": [ASKED, ANSWER], "functions": [{"name": "f"}]}),
    ("records with 'images': images and sound are not learned", {**GOOD, "images": ["a.png"]}),
    ("records with 'chosen': preferences are not learned", {"instruction": "a", "chosen": "b", "rejected": "c"}),
    ("records with 'kto_tag': preferences are not learned", {**GOOD, "kto_tag": False}),
    ("records with 'label': preferences are not learned", {"prompt": "a", "completion": "b", "label": False}),
    ("messages whose 'weight' is neither 0 nor 1 (false, true)", answered(weight=0.5)),
    ("messages whose 'weight' is neither 0 nor 1 (false, true)", answered(weight=float("nan"))),
    ("messages whose 'train' is neither 0 nor 1 (false, true)", answered(train="no")),
    ("messages whose 'weight' and 'train' disagree", answered(weight=0, train=True)),
    ("messages with 'train' that are no answer: only answers are learned",
     {"messages": [{**ASKED, "train": True}, ANSWER]}),
    ("conversations of which no answer is learned (weight, train)", answered(weight=0)),
    ("conversations without a question and an answer", {"messages": said(("user", "a"))}),
    ("conversations with an empty answer", {"instruction": "a", "output": " "}),
    ("conversations with an empty answer", {"instruction": "a", "output": ""}),
    ("records that are not valid Unicode", {"instruction": "\ud800", "output": "b"}),
    ("records that are not valid Unicode", {**GOOD, "history": [["\ud800", "b"]]}),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "record"), BAD, ids=[f"{i} {reason}" for i, (reason, _) in enumerate(BAD)])
def test_what_is_no_conversation_is_counted_by_reason(read, reason, record) -> None:
    found, dropped = read(GOOD, record)
    assert len(found) == 1
    assert dropped.counts == {reason: 1}
    assert dropped.first_place[reason].endswith("instructions.jsonl:2")


def test_the_role_is_told_where_it_is_none(read) -> None:
    _, dropped = read(GOOD, {"messages": said(("narrator", "a"))})
    assert "messages whose 'role' is none of system, developer, user, human" in str(dropped)


def test_a_file_without_a_conversation_is_an_error_that_says_why(read) -> None:
    with pytest.raises(CorpusError, match="no instruction could be read: 1 lines that are not a JSON object"):
        read(["text"])


def test_a_file_of_plain_text_is_refused(read) -> None:
    with pytest.raises(CorpusError, match="plain text has no fields; give JSON Lines, JSON or Parquet"):
        read(GOOD, name="instructions.txt")
