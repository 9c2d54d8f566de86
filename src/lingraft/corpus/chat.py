"""Conversations that a chat model generates: questions from the beginning of its template on, and answers.

An instruct model that is given its chat template up to the user's message generates a message that a user might have
sent, and then answers it (Magpie, arXiv 2406.08464 §2). So what a model does in a chat can be measured, and replayed
in training, without any text of its developers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lingraft.nn.generate import AT_TEMPERATURE_1, continued

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LONGEST_QUESTION = 64
LONGEST_ANSWER = 128
"""Tokens."""


class Turns(NamedTuple):
    """The tokens of a chat template around a question and its answer."""

    before: list[int]
    """Up to the question, with a system message where the template has one."""
    between: list[int]
    """From the end of the question to the beginning of the answer."""
    ends: list[int]
    """Tokens that end an answer."""
    texts: tuple[str, str]
    """What `before` and `between` are tokens of."""

    def prompt(self, question: Sequence[int]) -> list[int]:
        """A question in the template, up to its answer."""
        return [*self.before, *question, *self.between]


class Conversation(NamedTuple):
    """A question and its answer, as tokens; the answer with the token that ends it, where it was reached."""

    question: list[int]
    answer: list[int]


def converse(model: PreTrainedModel, turns: Turns, count: int, length: int) -> Iterator[Conversation]:
    """Conversations at temperature 1 that fit `length` tokens, from `count` questions drawn at once.

    Questions that do not end, or are empty, are left out; an answer that does not end is cut.
    """
    room = length - len(turns.before) - len(turns.between)
    starts = [turns.before] * count
    longest = max(1, min(LONGEST_QUESTION, room // 2))
    end = turns.between[0]
    drawn = continued(model, starts, [end], longest, AT_TEMPERATURE_1)
    questions = [row[:-1] for row in drawn if row[-1] == end and len(row) > 1]
    prompts = [turns.prompt(question) for question in questions]
    answers = continued(model, prompts, turns.ends, max(1, min(LONGEST_ANSWER, room // 2)), AT_TEMPERATURE_1)
    return (Conversation(*pair) for pair in zip(questions, answers, strict=True))
