r"""A user's own questions: with options, of which one is chosen, or open ones, whose answer is generated.

    {"context": "Maji ni", "choices": [" baridi.", " kavu."], "answer": 0}
    {"context": "Swali: Mbili na tatu?\nJibu:", "answer": "5"}

A task is a mapping from languages to files of such lines, or has keys of its own (`TaskFiles`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lingraft.cache import fingerprint
from lingraft.corpus.read import find_files, read_records
from lingraft.corpus.sources.base import ONE_OR_MORE
from lingraft.corpus.sources.files import FilePatterns
from lingraft.errors import CorpusError, UserError
from lingraft.evaluation import ABILITIES
from lingraft.languages import by_code

CHOOSING = ("acc", "acc_norm")
"""Figures of questions with options: the likeliest option, and the likeliest by its bytes."""
GENERATING = ("exact_match", "last_number", "chrf")
"""Figures of open questions."""


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
        _check_unicode("".join(self.texts))
        return self

    @property
    def texts(self) -> list[str]:
        return [self.context + option for option in self.choices]

    @property
    def shown(self) -> str:
        """The question with its right answer, as an example."""
        return self.texts[self.answer]

    @property
    def measured(self) -> Iterator[tuple[str, bool]]:
        """Its texts, and whether each is also compared as a whole with a corpus."""
        yield self.context, True
        for number, choice in enumerate(self.choices):
            yield self.context + choice, number == self.answer
            yield choice, False


class OpenQuestion(BaseModel):
    """A context, and what is to be said after it: one answer, or several that are right."""

    context: str = Field(min_length=1)
    answer: Annotated[list[str], Field(min_length=1), ONE_OR_MORE]

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="after")
    def _answers_say_something(self) -> OpenQuestion:
        if not all(answer.strip() for answer in self.answer):
            raise ValueError("an answer is empty")
        _check_unicode(self.context + "".join(self.answer))
        return self

    @property
    def shown(self) -> str:
        answer, context = self.answer[0], self.context
        between = "" if answer[0].isspace() or context[-1].isspace() else " "
        return f"{context}{between}{answer}"

    @property
    def measured(self) -> Iterator[tuple[str, bool]]:
        yield self.context, True
        yield self.shown, True
        for answer in self.answer:
            yield answer, False


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, written as \\ud800
        raise ValueError("this is not valid Unicode") from None


AnyQuestion = Question | OpenQuestion


def _files_alone(value: Any) -> Any:
    """A mapping from languages to files is a task without keys of its own."""
    return {"files": value} if isinstance(value, Mapping) and "files" not in value else value


def _by_code(value: Any) -> Any:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return value
    try:
        return by_code(value)
    except UserError as error:
        raise ValueError(str(error)) from None


_ByLanguage = Annotated[dict[str, FilePatterns], BeforeValidator(_by_code)]


class TaskFiles(BaseModel):
    """Files of questions by language, and how they are asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    files: _ByLanguage
    examples: _ByLanguage = {}
    """Files of worked examples by language, which stand before each question."""
    shots: Annotated[int, Field(ge=1)] | None = None
    """So many of the examples, the first ones; not said, all."""
    metric: Annotated[list[Literal["acc", "acc_norm", "exact_match", "last_number", "chrf"]], ONE_OR_MORE] = []
    """Not said: acc of questions with options, exact_match of open ones."""
    chat: bool = False
    """Whether an open question is asked in the model's chat template, where it has one."""
    max_tokens: Annotated[int, Field(ge=1)] = 64
    """Of a generated answer."""

    @model_validator(mode="after")
    def _shots_need_examples(self) -> TaskFiles:
        if self.shots and not self.examples:
            raise ValueError("'shots' without 'examples', the files that they are taken from")
        if unknown := [code for code in self.examples if code not in self.files]:
            raise ValueError(f"'examples' names {unknown[0]}, of which there are no questions in 'files'")
        return self


GivenTask = Annotated[
    TaskFiles, BeforeValidator(_files_alone, json_schema_input_type=TaskFiles | dict[str, FilePatterns])
]
"""A task as it is written: files by language alone, or with keys of its own."""


@dataclass(frozen=True)
class OwnTask:
    """The questions of one task by language, and how they are asked."""

    questions: Mapping[str, Sequence[AnyQuestion]]
    metrics: Sequence[str]
    examples: Mapping[str, Sequence[str]]
    """Worked examples by language, as they are shown."""
    chat: bool = False
    max_tokens: int = 64

    @property
    def is_open(self) -> bool:
        return isinstance(next(iter(self.questions.values()))[0], OpenQuestion)

    @property
    def fingerprint(self) -> dict[str, str]:
        asked = [*self.metrics, self.chat, self.max_tokens] if self.is_open else [*self.metrics]
        return {
            code: fingerprint([asked, self.examples.get(code, []), [question.model_dump() for question in questions]])
            for code, questions in self.questions.items()
        }

    def contexts(self, code: str) -> list[str]:
        """What stands before each answer, examples included."""
        before = "".join(f"{example}\n\n" for example in self.examples.get(code, []))
        return [before + question.context for question in self.questions[code]]


Tasks = Mapping[str, OwnTask]


def read_tasks(tasks: Mapping[str, TaskFiles]) -> Tasks:
    """The questions of each task, from its files.

    Raises:
        CorpusError: no such file, or one that `read_questions` refuses.
        UserError: a task by the name of one that is always measured, or a figure that its questions cannot have.
    """
    for name in ABILITIES:
        if name in tasks:
            raise UserError(f"a task of your own cannot be named '{name}', which is one of ours; give another name")
    return {name: _read_task(name, given) for name, given in tasks.items()}


def _read_task(name: str, given: TaskFiles) -> OwnTask:
    questions = {code: read_questions(find_files(*patterns)) for code, patterns in given.files.items()}
    examples = {code: read_questions(find_files(*patterns)) for code, patterns in given.examples.items()}
    kinds = {type(question) for of in (*questions.values(), *examples.values()) for question in of}
    if len(kinds) > 1:
        raise UserError(f"task {name}: it has open questions and such with 'choices'; make two tasks of them")
    allowed = GENERATING if OpenQuestion in kinds else CHOOSING
    if wrong := [metric for metric in given.metric if metric not in allowed]:
        kind = "open questions" if OpenQuestion in kinds else "questions with 'choices'"
        raise UserError(f"task {name}: {kind} have no '{wrong[0]}'; allowed are {', '.join(allowed)}")
    if given.chat and OpenQuestion not in kinds:
        raise UserError(f"task {name}: 'chat' asks open questions, and these have 'choices'; remove it")
    shown = {code: [question.shown for question in of[: given.shots]] for code, of in examples.items()}
    for code, of in questions.items() if examples else ():
        if len(shown.get(code, [])) < (given.shots or 1):
            have = f"{len(examples[code])} examples" if code in examples else "no 'examples'"
            raise UserError(f"task {name}: {code} has {have}, and {given.shots or 'some'} are to be shown; give more")
        if leaked := {_asked(question) for question in of} & {
            _asked(example) for example in examples[code][: given.shots]
        }:
            raise UserError(f"task {name}: an example of {code} is a question too: '{leaked.pop()[:60]}'; leave it out")
    return OwnTask(questions, given.metric or [allowed[0]], shown, given.chat, given.max_tokens)


def _asked(question: AnyQuestion) -> str:
    """What tells a question from others: an open one by its context, since it may have several answers."""
    return question.context.strip() if isinstance(question, OpenQuestion) else "\n".join(question.texts)


def read_questions(files: Sequence[Path]) -> list[AnyQuestion]:
    """The questions of JSON Lines files, each with `choices` and the number of the right one, or with its answer.

    Raises:
        CorpusError: a line that is not of this form, with its place, or no questions at all.
    """
    questions: list[AnyQuestion] = []
    for place, record in read_records(files):
        kind = OpenQuestion if _is_open(record) else Question
        try:
            questions.append(kind.model_validate(record))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            what = problem["msg"].removeprefix("Value error, ")
            raise CorpusError(
                f"{place}: {where + ': ' if where else ''}{what}; a question is "
                '{"context": "…", "choices": ["…", "…"], "answer": 0}, or {"context": "…", "answer": "…"}'
            ) from None
    return questions


def _is_open(record: Any) -> bool:
    return isinstance(record, Mapping) and "choices" not in record and isinstance(record.get("answer"), str | list)
