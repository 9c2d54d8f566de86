"""What a model does on the questions of a task, and what became of it: one form for tasks of every kind.

A figure is the mean over questions of what each is worth, from 0 to 1 (`acc`, `acc_norm`, `exact_match`,
`last_number`), or a figure of all generated texts together (`chrf`, `bleu`, of sacrebleu, from 0 to 1).
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from lingraft.evaluation.paired_changes import accuracies, corpus_scores
from lingraft.evaluation.suite import Roles, Suite
from lingraft.schema import TaskResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

T = TypeVar("T")

logger = logging.getLogger(__name__)

OF_THE_WHOLE = ("chrf", "bleu")
"""Figures that are no mean over questions."""


@dataclass(frozen=True)
class Scores:
    """What a model did on the questions of one language."""

    values: Mapping[str, npt.NDArray[np.float64]]
    """By figure, what each question is worth: (questions,)."""
    chance: float = 0.0
    """What guessing is worth."""
    texts: Sequence[tuple[str, str]] = ()
    """Of generated answers: what was to be said, and what was."""
    by_examples: Sequence[float] = ()
    """The mean after no example, after one, and so on, where a task asks so."""

    def figure(self, metric: str) -> float:
        """The figure of one language."""
        if metric in OF_THE_WHOLE:
            return float(corpus_scores(metric, {"": self.texts}, None, {}).languages[""].score.after)
        return float(self.values[metric].mean())

    @property
    def shown(self) -> str:
        """The means, for a log."""
        means = ", ".join(f"{metric} {100 * values.mean():.1f} %" for metric, values in self.values.items())
        return means or f"{len(self.texts)} texts generated"


class TaskSuite(Suite[Scores]):
    """One task in several languages, whose results go under `tasks`, one for each figure."""

    title: str
    metrics: Sequence[str]

    def to_json(self, measured: Mapping[str, Scores]) -> dict[str, Any]:
        return {
            code: {
                "values": {metric: values.tolist() for metric, values in scores.values.items()},
                "chance": scores.chance,
                "texts": [list(pair) for pair in scores.texts],
                "by_examples": list(scores.by_examples),
            }
            for code, scores in measured.items()
        }

    def from_json(self, stored: Any) -> dict[str, Scores]:
        return {
            code: Scores(
                {metric: np.array(values, dtype=float) for metric, values in scores["values"].items()},
                scores["chance"],
                [(expected, generated) for expected, generated in scores["texts"]],
                scores["by_examples"],
            )
            for code, scores in stored.items()
        }

    def compare(self, after: Mapping[str, Scores], before: Mapping[str, Scores] | None, roles: Roles) -> dict[str, Any]:
        results = {metric: self._result(metric, after, before, roles) for metric in self.metrics}
        several = len(results) > 1
        return {"tasks": {f"{self.title}, {metric}" if several else self.title: of for metric, of in results.items()}}

    def _result(
        self, metric: str, after: Mapping[str, Scores], before: Mapping[str, Scores] | None, roles: Roles
    ) -> TaskResult:
        if metric in OF_THE_WHOLE:
            texts, earlier_texts = _each(after, lambda scores: scores.texts), _each(before, lambda scores: scores.texts)
            return corpus_scores(metric, texts or {}, earlier_texts, roles)
        values = [_each(of, lambda scores: scores.values[metric]) for of in (after, before)]
        chance = {code: scores.chance for code, scores in after.items()}
        return accuracies(values[0] or {}, values[1], chance, roles, metric)


@dataclass(frozen=True)
class Ability(TaskSuite):
    """A task without questions, in any language: of words of the measured texts, or of pairs of sentences."""

    sequences: Mapping[str, Any]
    """By language, what is asked."""
    num_watched: ClassVar[int] = 8
    """Of the sequences, the first so many are measured at each validation."""

    @property
    def watched(self) -> Self:
        """Of what is asked, what is measured at each validation."""
        return replace(self, sequences={code: of[: self.num_watched] for code, of in self.sequences.items()})

    @abstractmethod
    def scores(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Scores]:
        """As `measure`; logs nothing."""

    def measure(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Scores]:
        measured = self.scores(model, tokenizer, max_length)
        shown = "  ".join(f"{code} {100 * of.values['acc'].mean():.1f} %" for code, of in measured.items())
        logger.info("%s: %s", self.title, shown)
        return measured


def _each(measured: Mapping[str, Scores] | None, part: Callable[[Scores], T]) -> dict[str, T] | None:
    return {code: part(scores) for code, scores in measured.items()} if measured else None
