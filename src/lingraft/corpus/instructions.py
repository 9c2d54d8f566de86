"""Read conversations from files, as examples of a prompt and a completion.

The formats of records are in `corpus.instruction_formats`. Each answer that is learned is an example; all messages
before it are its prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.corpus.dropped import DroppedText
from lingraft.corpus.formats import record_reader
from lingraft.corpus.instruction_formats import ASSISTANT, USER, Turn, UnusableRecordError, read_turns
from lingraft.corpus.read import is_unicode, read_each

Message = dict[str, str]
Example = dict[str, list[Message]]
"""`prompt` and `completion`."""

# fmt: off
_METADATA = frozenset({
    "id", "idx", "index", "uuid", "prompt_id", "conversation_id", "num_turns", "hash", "created", "date", "timestamp",
    "source", "dataset", "origin", "split", "url", "license", "language", "lang", "locale", "model",
    "category", "topic", "task", "type", "tags", "meta", "metadata", "text",
})
# fmt: on
"""Fields that describe a record, or repeat it as a whole (`text`); not using them is no loss."""


@dataclass(frozen=True)
class Conversation:
    """The messages of a conversation, in order; the last one is the assistant's."""

    messages: list[Message]
    texts: list[str]
    """The texts of the messages; an instruction and its input are two texts of one message."""
    place: str = ""
    """`file:line`."""
    context: frozenset[int] = frozenset()
    """Positions of the answers that are not learned."""

    @property
    def examples(self) -> list[Example]:
        """One for each answer to a question, if the answer is learned."""
        first = next(i for i, message in enumerate(self.messages) if message["role"] == USER)
        answers = [i for i, message in enumerate(self.messages) if message["role"] == ASSISTANT and i > first]
        return [
            {"prompt": self.messages[:i], "completion": [self.messages[i]]} for i in answers if i not in self.context
        ]


def read_conversations(files: Sequence[Path], dropped: DroppedText) -> Iterator[Conversation]:
    """The conversations of files, in order. Unusable records and unused fields are counted in `dropped`.

    Raises:
        CorpusError: a file of plain text, or one without a conversation.
    """
    return read_each(files, _of_file, dropped, "instruction")


def _of_file(path: Path, dropped: DroppedText) -> Iterator[Conversation]:
    for place, record in record_reader(path)(path, None, dropped):
        try:
            turns, unused = read_turns(record)
            conversation = _conversation(turns, place)
        except UnusableRecordError as error:
            dropped.add(str(error), place)
        else:
            dropped.unused.update(name for name in unused if name.rpartition(".")[2] not in _METADATA)
            yield conversation


def _conversation(turns: list[Turn], place: str) -> Conversation:
    """The turns up to the last answer, as a conversation with the texts of all turns.

    Raises:
        UnusableRecordError: there is no answer that can be learned.
    """
    texts = [text for turn in turns for text in turn.parts or (turn.content,)]
    while turns and turns[-1].role != ASSISTANT:
        turns = turns[:-1]
    if not any(turn.role == USER for turn in turns):
        raise UnusableRecordError("conversations without a question and an answer")
    if not all(is_unicode(text) for text in texts):
        raise UnusableRecordError("records that are not valid Unicode")
    if any(not turn.content.strip() for turn in turns if turn.role == ASSISTANT):
        raise UnusableRecordError("conversations with an empty answer")
    messages: list[Any] = [{"role": turn.role, "content": turn.content} for turn in turns]
    context = frozenset(i for i, turn in enumerate(turns) if turn.role == ASSISTANT and not turn.is_learned)
    conversation = Conversation(messages, texts, place, context)
    if not conversation.examples:
        raise UnusableRecordError("conversations of which no answer is learned (weight, train)")
    return conversation
