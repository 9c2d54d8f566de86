"""Chat as a language to be retained: what an instruct base asks and answers itself, before and after.

Two measures, since the first alone hides the damage:

- *bits per byte* of the base's own answers, each after its question in the chat template
- *agreement* of greedy answers to the same questions: the share that begin with the same characters, and chrF of the
  whole (Popović 2015); and questions whose answers anyone can check, asked before and after
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from lingraft.cache import fingerprint
from lingraft.corpus.chat import Turns, converse
from lingraft.errors import ModelError
from lingraft.evaluation import BEGINNING
from lingraft.evaluation.bits_per_byte import DocumentScores, Scored, bits_change
from lingraft.evaluation.chat_turns import answered, context_of, prompt_of, turns_of, why_no_chat
from lingraft.evaluation.known_answers import KNOWN_ANSWERS, is_right
from lingraft.evaluation.suite import Progress, Roles, Suite
from lingraft.nn.generate import GREEDILY, continued
from lingraft.schema import ChatAnswer, ChatResult, Counts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lingraft.corpus.tokenize import DocumentTokenizer

logger = logging.getLogger(__name__)

LONGEST_ANSWER = 48
"""Tokens of a greedy answer."""
BATCH = 64
"""Conversations that are generated at a time."""
FEWEST = 16
"""Of them, where few are missing: some questions do not end, and some are asked again."""
USUAL = 128
"""Tokens of a usual conversation, a guess from which so many are generated as are missing."""
TRIES = 8
"""Rounds in which a base may generate no conversation, before it is given up."""


class Exchange(NamedTuple):
    """A question and the base's answer, as text; whether the answer ended."""

    question: str
    answer: str
    ended: bool


@dataclass(frozen=True)
class ChatScores(DocumentScores):
    """What one model makes of the base's answers, each a document, and how it answers itself."""

    answers: list[str]
    """Greedy answers to the questions of the conversations."""
    known: list[str]
    """Greedy answers to `KNOWN_ANSWERS`."""

    @property
    def right(self) -> list[bool]:
        """Which of the known questions are answered right."""
        return [is_right(*pair) for pair in zip(KNOWN_ANSWERS, self.known, strict=True)]


def _asking(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Turns:
    """As `turns_of`, of a model that generates the questions too.

    Raises:
        ModelError: as `turns_of`, or nobody could tell where a question ends that the model generates.
    """
    turns = turns_of(model, tokenizer)
    if problem := why_no_chat(tokenizer):
        raise ModelError(f"chat: {problem}")
    return turns


def generate_exchanges(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, without: Sequence[str] = ()
) -> list[Exchange]:
    """Conversations that the base generates, with different questions, at temperature 1; none with those of `without`.

    Raises:
        ModelError: as `turns_of`, or the base generates too few.
    """
    turns, found, failed = _asking(model, tokenizer), dict[str, Exchange](), 0
    while len(found) < count:
        before, missing = len(found), count - len(found)
        for conversation in converse(model, turns, min(BATCH, max(FEWEST, missing + missing // 4)), context_of(model)):
            ended = conversation.answer[-1] in turns.ends
            question, answer = (
                str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
                for ids in (conversation.question, conversation.answer)
            )
            if question and answer and question not in without:
                found.setdefault(question, Exchange(question, answer, ended))
        failed = 0 if len(found) > before else failed + 1
        if failed == TRIES:
            raise ModelError(
                f"chat: the base generated {len(found)} conversations of {count}; is it an instruct model?"
            )
    return list(found.values())[:count]


def sample_conversations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, length: int, without: Sequence[str] = ()
) -> Tensor:
    """(count, length) tokens of conversations at temperature 1, set end to end; `without` holds questions to leave out.

    Raises:
        ModelError: as `turns_of`, or the base generates no question to its end.
    """
    turns, left_out = _asking(model, tokenizer), set(without)
    ids, failed = list[int](), 0
    while len(ids) < count * length:
        before, missing = len(ids), count * length - len(ids)
        for question, answer in converse(model, turns, min(BATCH, 2 + missing // USUAL), context_of(model)):
            if str(tokenizer.decode(question, skip_special_tokens=True)).strip() not in left_out:
                ids += [*turns.prompt(question), *answer]
        failed = 0 if len(ids) > before else failed + 1
        if failed == TRIES:
            raise ModelError("chat: the base generates no question to its end; is it an instruct model?")
    return torch.tensor(ids[: count * length]).view(count, length).to(model.device)


@dataclass(frozen=True)
class Chat(Suite[ChatScores]):
    """Conversations of the base, under the one key `chat`."""

    exchanges: Sequence[Exchange]
    name = "chat"
    uses_chat = True

    @property
    def fingerprint(self) -> str:
        return fingerprint([list(self.exchanges), list(KNOWN_ANSWERS)])

    def measure(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, ChatScores]:
        model.eval()
        plain = tokenizer.tokenizer
        turns, progress = turns_of(model, plain), Progress("chat")
        questions = [exchange.question for exchange in self.exchanges]
        scored = answers_to_score(model, plain, turns, self.exchanges)
        with torch.inference_mode():
            nats = np.array(scored.nats(model), dtype=np.float64)
        answers = list(_answers(model, plain, turns, [*questions, *KNOWN_ANSWERS], progress))
        scores = ChatScores(
            nats,
            np.array([len(exchange.answer.encode()) for exchange in self.exchanges], dtype=np.int64),
            np.array([len(row) - start for row, start in zip(*scored, strict=True)], dtype=np.int64),
            answers[: len(questions)],
            answers[len(questions) :],
        )
        shown = (scores.bits_per_byte, sum(scores.right), len(scores.right))
        logger.info("chat: %.4f bits per byte of the base's answers, %d of %d known questions right", *shown)
        return {self.name: scores}

    def to_json(self, measured: Mapping[str, ChatScores]) -> Any:
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(measured[self.name]).items()
        }

    def from_json(self, stored: Any) -> dict[str, ChatScores]:
        numbers = {name: np.array(stored[name], dtype=np.int64) for name in ("num_bytes", "num_tokens")}
        return {self.name: ChatScores(**{**stored, "nats": np.array(stored["nats"], dtype=np.float64), **numbers})}

    def compare(
        self, after: Mapping[str, ChatScores], before: Mapping[str, ChatScores] | None, roles: Roles
    ) -> dict[str, Any]:
        now, then = after[self.name], before[self.name] if before else None
        asked = [*KNOWN_ANSWERS, *(exchange.question for exchange in self.exchanges)]
        new, old = [*now.known, *now.answers], [*then.known, *then.answers] if then else None
        answers = [_answer(question, new[i], old[i] if old else None) for i, question in enumerate(asked)]
        right = {"before": sum(then.right)} if then else {}
        result = ChatResult(
            conversations=len(self.exchanges),
            bits_per_byte=bits_change(now, then),
            **(_agreement(now.answers, then.answers) if then else {}),
            known=len(now.known),
            right=Counts(**right, after=sum(now.right)),
            answers=answers,
        )
        return {"chat": result}


def answers_to_score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, turns: Turns, exchanges: Sequence[Exchange]
) -> Scored:
    """Each answer of the base after its question, with the token that ends it, if any."""
    rows, starts = [], []
    for question, answer, ended in exchanges:
        whole = answered(tokenizer, turns, question, answer)
        rows.append([*whole, *(turns.ends[:1] if ended else [])][: context_of(model)])
        starts.append(len(prompt_of(tokenizer, turns, question)))
    return Scored(rows, starts)


def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    turns: Turns,
    questions: Sequence[str],
    progress: Progress,
) -> Iterator[str]:
    """Greedy answers, of at most `LONGEST_ANSWER` tokens."""
    prompts = [prompt_of(tokenizer, turns, question) for question in questions]
    longest = min(LONGEST_ANSWER, max(1, context_of(model) - max(map(len, prompts))))
    for first in range(0, len(prompts), BATCH):
        batch = prompts[first : first + BATCH]
        for ids in continued(model, batch, turns.ends, longest, GREEDILY):
            yield str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
        progress((first + len(batch)) / len(prompts))


def _answer(question: str, after: str, before: str | None) -> ChatAnswer:
    """Both answers to a question; of a known one, whether each is right."""
    answers = {"after": after, **({"before": before} if before is not None else {})}
    known = question in KNOWN_ANSWERS
    right = {f"right_{when}": is_right(question, given) for when, given in answers.items()} if known else {}
    return ChatAnswer.model_validate({"question": question, **answers, **right})


def _agreement(after: Sequence[str], before: Sequence[str]) -> dict[str, float]:
    """The share of answers that begin alike, and chrF of all of them, both from 0 to 1."""
    from sacrebleu.metrics.chrf import CHRF

    same = [one[:BEGINNING] == other[:BEGINNING] for one, other in zip(after, before, strict=True)]
    score = CHRF().corpus_score(list(after), [list(before)]).score
    return {"same_beginning": float(np.mean(same)), "chrf": float(score) / 100}
