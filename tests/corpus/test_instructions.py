"""Conversations out of JSON Lines: both forms, every answer an example, what is none counted by reason."""

from __future__ import annotations

import json

import pytest

from lingraft.corpus.instructions import Conversation, read_conversations
from lingraft.corpus.read import DroppedText
from lingraft.errors import CorpusError


def said(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


@pytest.fixture
def read(tmp_path):
    def of(*records, name="instructions.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        dropped = DroppedText()
        return [conversation.messages for conversation in read_conversations([path], dropped)], dropped

    return of


def test_instruction_and_input_are_the_question(read) -> None:
    records = [{"instruction": "a", "input": given, "output": "b"} for given in ("c", "", None)]
    found, dropped = read(*records, {"instruction": "a", "output": "b"})
    questions = ["a\n\nc", "a", "a", "a"]
    assert found == [said(("user", question), ("assistant", "b")) for question in questions]
    assert not dropped


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


GOOD = {"instruction": "a", "output": "b"}
BAD = {
    "lines that are not a JSON object": ["text"],
    "records without 'messages', and without a text as 'output'": {"instruction": "a"},
    "records without 'messages', and without a text as 'instruction'": {"prompt": "a", "output": "b"},
    "records whose 'input' is not text": {"instruction": "a", "input": ["c"], "output": "b"},
    "records whose 'messages' is not a list": {"messages": "a"},
    "messages without a text as 'content'": {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
    "messages whose 'role' is none of system, user, assistant": {"messages": said(("tool", "a"))},
    "conversations without a question and an answer": {"messages": said(("user", "a"))},
    "conversations with an empty answer": {"instruction": "a", "output": " "},
    "records that are not valid Unicode": {"instruction": "\ud800", "output": "b"},
}


@pytest.mark.parametrize(("reason", "record"), BAD.items(), ids=BAD)
def test_what_is_no_conversation_is_counted_by_reason(read, reason, record) -> None:
    found, dropped = read(GOOD, record)
    assert len(found) == 1
    assert dropped.counts == {reason: 1}
    assert dropped.first_place[reason].endswith("instructions.jsonl:2")


def test_a_file_without_a_conversation_is_an_error_that_says_why(read) -> None:
    with pytest.raises(CorpusError, match="no instruction could be read: 1 lines that are not a JSON object"):
        read(["text"])


def test_a_file_of_another_format_is_refused(read) -> None:
    with pytest.raises(CorpusError, match=r"is not JSON Lines; give .jsonl"):
        read(GOOD, name="instructions.txt")
