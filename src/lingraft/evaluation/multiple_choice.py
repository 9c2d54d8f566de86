"""Questions with options, answered by likelihood: knowledge, comprehension, translation.

    answer = argmax over options of  ln p(context + option)

All options share the context, so its likelihood cancels, and no token boundary between context and
option is needed. This is the plain accuracy of the field (`acc` of
lm-evaluation-harness), without a correction for the length of an option.

Learning and forgetting are in points of accuracy: after - before over learned languages, before - after over
retained ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lingraft.cache import fingerprint
from lingraft.corpus.read import find_files, read_records
from lingraft.errors import CorpusError, UserError
from lingraft.evaluation import COPYING
from lingraft.evaluation.bits_per_byte import score
from lingraft.evaluation.paired_bootstrap import accuracies
from lingraft.evaluation.suite import Progress, Roles, Suite

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

logger = logging.getLogger(__name__)


class Question(BaseModel):
    """A context, its options (`choices`), and the index of the right one (`answer`, from 0)."""

    context: str
    choices: list[str] = Field(min_length=2)
    answer: int = Field(ge=0)

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="after")
    def _answer_is_a_choice(self) -> Question:
        if self.answer >= len(self.choices):
            raise ValueError(f"'answer' is {self.answer}, the options are counted from 0 to {len(self.choices) - 1}")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("two options are the same")
        if not self.context and not all(self.choices):
            raise ValueError("an option without a context is empty")
        try:
            "".join(self.texts).encode()
        except UnicodeEncodeError:  # a lone surrogate, written as \\ud800
            raise ValueError("this is not valid Unicode") from None
        return self

    @property
    def texts(self) -> list[str]:
        return [self.context + option for option in self.choices]


Tasks = Mapping[str, Mapping[str, Sequence[Question]]]
"""Questions by task and language."""


@dataclass(frozen=True)
class Answers:
    """Whether each question was answered right, (questions,), and the accuracy of guessing."""

    correct: npt.NDArray[np.bool_]
    chance: float

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


def read_tasks(files: Mapping[str, Mapping[str, Sequence[str]]]) -> Tasks:
    """The questions of each task and language, from paths or glob patterns.

    Raises:
        CorpusError: no such file, or one that `read_questions` refuses.
        UserError: a task by the name of one that is always measured.
    """
    if COPYING in files:
        raise UserError(f"a task of your own cannot be named '{COPYING}', which is always measured; give another name")
    return {
        task: {code: read_questions(find_files(*patterns)) for code, patterns in by_language.items()}
        for task, by_language in files.items()
    }


def read_questions(files: Sequence[Path]) -> list[Question]:
    """The questions of JSON Lines files: `{"context": str, "choices": [str, …], "answer": int}` a line.

    Raises:
        CorpusError: a line that is not of this form, with its place.
    """
    questions = []
    for place, record in read_records(files):
        try:
            questions.append(Question.model_validate(record))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            what = problem["msg"].removeprefix("Value error, ")
            raise CorpusError(
                f"{place}: {where + ': ' if where else ''}{what}; a question is "
                '{"context": "…", "choices": ["…", "…"], "answer": 0}'
            ) from None
    return questions


def answer(
    model: PreTrainedModel,
    tokenizer: DocumentTokenizer,
    questions: Sequence[Question],
    max_length: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Answers:
    """Answer questions by likelihood; of equally likely options, the first.

    Raises:
        CorpusError: a question without a context, where documents have no BOS and so the first
            token of an option cannot be scored.
    """
    if not tokenizer.bos_ids:
        for question in questions:
            if not question.context:
                raise CorpusError(
                    f"the question with the option '{question.choices[0]}' has no context, and documents of the model "
                    "no BOS to put in its place: the first token of an option cannot be scored; give a context"
                )
    texts = [text for question in questions for text in question.texts]
    nats = score(model, tokenizer, texts, max_length, progress).nats
    counts = [len(question.choices) for question in questions]
    by_question = np.split(nats, np.cumsum(counts)[:-1])
    return Answers(
        correct=np.array(
            [costs.argmin() == q.answer for costs, q in zip(by_question, questions, strict=True)], dtype=bool
        ),
        chance=float(np.mean([1 / count for count in counts])),
    )


@dataclass(frozen=True)
class MultipleChoice(Suite[Answers]):
    """One task: by language, questions with options."""

    task: str
    questions: Mapping[str, Sequence[Question]]

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"tasks.{self.task}"

    @property
    def fingerprint(self) -> dict[str, str]:
        return {
            code: fingerprint([question.model_dump() for question in questions])
            for code, questions in self.questions.items()
        }

    def measure(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Answers]:
        measured = {
            code: answer(model, tokenizer, questions, max_length, Progress(f"{self.task} {code}"))
            for code, questions in self.questions.items()
        }
        shown = "  ".join(f"{code} {100 * answers.accuracy:.1f} %" for code, answers in measured.items())
        logger.info("%s: %s", self.task, shown)
        return measured

    def to_json(self, measured: Mapping[str, Answers]) -> dict[str, Any]:
        return {
            code: {"correct": answers.correct.tolist(), "chance": answers.chance} for code, answers in measured.items()
        }

    def from_json(self, stored: Any) -> dict[str, Answers]:
        return {
            code: Answers(np.array(answers["correct"], dtype=bool), answers["chance"])
            for code, answers in stored.items()
        }

    def compare(
        self, after: Mapping[str, Answers], before: Mapping[str, Answers] | None, roles: Roles
    ) -> dict[str, Any]:
        chance = {code: answers.chance for code, answers in after.items()}
        result = accuracies(_right(after), _right(before) if before else None, chance, roles)
        return {"tasks": {self.task: result}}


def _right(measured: Mapping[str, Answers]) -> dict[str, npt.NDArray[np.float64]]:
    return {code: answers.correct.astype(float) for code, answers in measured.items()}
