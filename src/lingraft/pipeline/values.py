"""Values that steps take and return, besides artefacts: models, tokenizers, files, questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lingraft.cache import file_fingerprint, files_fingerprint
from lingraft.checkpoints.chat_template import tokenizer_for_chat
from lingraft.checkpoints.document_marks import DocumentMarks
from lingraft.checkpoints.read import find_model, model_fingerprint, tokenizer_fingerprint
from lingraft.corpus.read import find_files
from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.evaluation.alignment import SentencePairs
from lingraft.evaluation.harness import HarnessSuite
from lingraft.evaluation.measure import document_tokenizer
from lingraft.evaluation.questions import Tasks
from lingraft.pipeline.step import Artefact


@dataclass(frozen=True)
class Tokenizer:
    """A folder with a tokenizer, and the tokens before and after a document."""

    folder: Path
    marks: DocumentMarks

    @property
    def fingerprint(self) -> list[Any]:
        return [tokenizer_fingerprint(self.folder), self.marks.bos, self.marks.eos]

    def load(self) -> DocumentTokenizer:
        return document_tokenizer(self.folder, self.marks)


@dataclass(frozen=True)
class ChatTokenizer:
    """A folder with a tokenizer, and the source of its chat template: a file, a model, or None for its own."""

    folder: Path
    template: str | None

    @property
    def fingerprint(self) -> list[Any]:
        return [tokenizer_fingerprint(self.folder), tokenizer_for_chat(self.folder, self.template).chat_template]


@dataclass(frozen=True)
class ChatFiles:
    """The files beside a model's tokenizer that a chat depends on: its template, and where generation stops."""

    folder: Path

    @property
    def fingerprint(self) -> str:
        patterns = ("*.jinja", "generation_config.json")
        return files_fingerprint(sorted(path for pattern in patterns for path in self.folder.glob(pattern)))


@dataclass(frozen=True)
class Model:
    """A folder with a model and its tokenizer: the base, or what a step wrote."""

    folder: Path

    @classmethod
    def load(cls, name: str) -> Model:
        """Find a model by folder or hub name.

        Raises:
            ModelError: it is not there, or is no model.
        """
        return cls(find_model(name))

    @property
    def fingerprint(self) -> str:
        return model_fingerprint(self.folder)


class ModelArtefact(Artefact):
    """An artefact with a model in it."""

    @property
    def model(self) -> Model:
        return Model(self.folder / "model")


@dataclass(frozen=True)
class Files:
    """Files by paths and patterns; the fingerprint depends on their content only."""

    patterns: tuple[str, ...]

    @cached_property
    def paths(self) -> list[Path]:
        return find_files(*self.patterns)

    @cached_property
    def fingerprint(self) -> list[str]:
        return [file_fingerprint(path) for path in self.paths]


@dataclass(frozen=True)
class Questions:
    """The questions of all tasks, and of the tasks of suites."""

    tasks: Tasks
    suites: Sequence[HarnessSuite] = ()
    lacking: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Task of a suite -> a language that it lacks -> why."""
    pairs: Mapping[str, SentencePairs] = field(default_factory=dict)
    """Learned language -> sentences of it with the same in another one."""

    @property
    def fingerprint(self) -> dict[str, dict[str, str]]:
        found = {
            **{title: task.fingerprint for title, task in self.tasks.items()},
            **{suite.name: suite.fingerprint for suite in self.suites},
        }
        if self.pairs:
            found["evaluation.pairs"] = {code: pairs.fingerprint for code, pairs in self.pairs.items()}
        return found
