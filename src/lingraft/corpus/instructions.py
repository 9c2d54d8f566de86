"""Instructions with their answers: conversations in JSON Lines -> prompts, and the answers that are learned.

A record has `messages`, a list of `{"role": "system" | "user" | "assistant", "content": text}`, or `instruction`,
`output` and perhaps `input`. Every answer of a conversation is an example: all that was said before it is its prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.corpus.read import DroppedText, json_records
from lingraft.errors import CorpusError

ROLES = ("system", "user", "assistant")

Message = dict[str, str]
Example = dict[str, list[Message]]
"""`prompt` and `completion`."""


@dataclass(frozen=True)
class Conversation:
    """Who said what, in order; the last to speak is the assistant."""

    messages: list[Message]
    texts: list[str]
    """What was said; an instruction and its input are two texts of one message."""
    place: str = ""
    """`file:line`."""

    @property
    def examples(self) -> list[Example]:
        """One for every answer to a question."""
        first = next(i for i, message in enumerate(self.messages) if message["role"] == "user")
        answers = [i for i, of in enumerate(self.messages) if of["role"] == "assistant" and i > first]
        return [{"prompt": self.messages[:i], "completion": [self.messages[i]]} for i in answers]


def read_conversations(files: Sequence[Path], dropped: DroppedText) -> Iterator[Conversation]:
    """The conversations of JSON Lines files, in order; what is none is counted by reason.

    Raises:
        CorpusError: a file of another format, or not one conversation.
    """
    seen = False
    for path in files:
        for place, record in json_records(path, dropped):
            try:
                conversation = _conversation(record, place)
            except ValueError as error:
                dropped.add(str(error), place)
            else:
                seen = True
                yield conversation
    if not seen:
        names = ", ".join(map(str, files))
        raise CorpusError(
            f"{names}: no instruction could be read: {dropped or 'the file is empty'}; records have 'messages', or "
            "'instruction', 'input' and 'output'"
        )


def _conversation(record: Any, place: str) -> Conversation:
    """A record up to its last answer; a ValueError says what is wrong with it."""
    if not isinstance(record, dict):
        raise ValueError("lines that are not a JSON object")
    has_messages = record.get("messages") is not None
    said, texts = _of_messages(record["messages"]) if has_messages else _of_instruction(record)
    while said and said[-1]["role"] != "assistant":
        said.pop()
    if not any(message["role"] == "user" for message in said):
        raise ValueError("conversations without a question and an answer")
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("records that are not valid Unicode") from None
    if any(not message["content"].strip() for message in said if message["role"] == "assistant"):
        raise ValueError("conversations with an empty answer")
    return Conversation(said, texts, place)


def _of_messages(messages: Any) -> tuple[list[Message], list[str]]:
    if not isinstance(messages, list):
        raise ValueError("records whose 'messages' is not a list")
    said = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError("messages without a text as 'content'")
        if message.get("role") not in ROLES:
            raise ValueError(f"messages whose 'role' is none of {', '.join(ROLES)}")
        said.append({"role": message["role"], "content": message["content"]})
    return said, [message["content"] for message in said]


def _of_instruction(record: Mapping[str, Any]) -> tuple[list[Message], list[str]]:
    for field in ("instruction", "output"):
        if not isinstance(record.get(field), str):
            raise ValueError(f"records without 'messages', and without a text as '{field}'")
    given = record.get("input") or ""
    if not isinstance(given, str):
        raise ValueError("records whose 'input' is not text")
    asked = record["instruction"] + (f"\n\n{given}" if given.strip() else "")
    said = [{"role": "user", "content": asked}, {"role": "assistant", "content": record["output"]}]
    return said, [record["instruction"], given, record["output"]]
