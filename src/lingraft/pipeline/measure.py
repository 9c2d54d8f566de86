"""The step that measures a model, and the suites of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.checkpoints.document_marks import DocumentMarks
from lingraft.evaluation.bits_per_byte import BitsPerByte
from lingraft.evaluation.chat import Chat
from lingraft.evaluation.measure import Measurement, measure, measuring_device, read_measurement, write_measurement
from lingraft.evaluation.suite import Suite
from lingraft.evaluation.suites import list_suites
from lingraft.evaluation.task_scores import Ability
from lingraft.pipeline.chat import GeneratedChat
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.text import Text
from lingraft.pipeline.values import ChatFiles, Model
from lingraft.recipe import Recipe


class MeasuredModel(Artefact):
    """The scores of one model: `measurement.json`."""

    def of(self, suites: Sequence[Suite[Any]]) -> Measurement:
        return read_measurement(self.folder, suites)


@step(MeasuredModel, version=2)
def measure_model(
    folder: Path,
    model: Model,
    suites: Sequence[Suite[Any]],
    max_length: int,
    marks: DocumentMarks,
    chat: ChatFiles | None,
    device: str,
) -> None:
    """`measurement.json`; `device` is where it is measured, and with that in which type."""
    write_measurement(folder, suites, measure(model.folder, suites, max_length, marks))


@dataclass(frozen=True)
class Suites:
    """The suites of a run, and how they measure."""

    text: BitsPerByte
    others: Sequence[Suite[Any]]
    max_length: int
    marks: DocumentMarks

    @property
    def all(self) -> list[Suite[Any]]:
        return [self.text, *self.others]

    @property
    def abilities(self) -> list[Ability]:
        """In-context abilities, which are measured while a model trains, too."""
        return [suite for suite in self.others if isinstance(suite, Ability)]

    @property
    def texts(self) -> Mapping[str, Sequence[str]]:
        """Language -> the documents that are measured."""
        return self.text.texts

    def measure(self, folder: Path, model: Model) -> Measurement:
        """Measure a model in all suites."""
        chat = ChatFiles(model.folder) if any(suite.uses_chat for suite in self.others) else None
        return measure_model(folder, model, self.all, self.max_length, self.marks, chat, measuring_device()).of(
            self.all
        )

    def measure_text(self, folder: Path, model: Model) -> Measurement:
        """Measure the bits per byte of a model alone."""
        return replace(self, others=()).measure(folder, model)


def build_suites(recipe: Recipe, text: Text, chat: GeneratedChat | None) -> Suites:
    """Build the suites: own or held-out text of each language, questions, words and prompts of texts, and chat."""
    texts = {code: text.split.measured(code) for code in recipe.languages.roles}
    measured = recipe.evaluation
    questions = text.questions
    of_text, others = list_suites(
        texts, questions.tasks, questions.suites, measured.num_samples, measured.num_sequences, questions.pairs
    )
    of_chat = [Chat(chat.exchanges)] if chat else []
    return Suites(of_text, [*others, *of_chat], recipe.length, recipe.marks)
