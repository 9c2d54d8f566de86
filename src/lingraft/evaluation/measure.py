"""Measure a model folder on suites, and keep the measurement as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lingraft.cache import read_json, write_json
from lingraft.checkpoints.document_marks import DocumentMarks, check_marks, plain_marks
from lingraft.checkpoints.read import read_model, read_tokenizer
from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.evaluation.suite import Suite
from lingraft.schema import Windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Measurement = Mapping[str, Mapping[str, Any]]
"""Suite -> language -> measurement."""


def measure(folder: Path, suites: Sequence[Suite[Any]], max_length: int, marks: DocumentMarks) -> Measurement:
    """Measure one model on every suite: on a CPU in float32, on a GPU in the stored dtype."""
    model, tokenizer = model_to_measure(folder), document_tokenizer(folder, marks)
    return {suite.name: suite.measure(model, tokenizer, max_length) for suite in suites}


def model_to_measure(folder: Path) -> PreTrainedModel:
    """Load the model to measure: on a CPU in float32, on a GPU in the stored dtype."""
    device = measuring_device()
    model = read_model(folder, torch.float32 if device == "cpu" else "auto")
    model.to(torch.device(device))  # type: ignore[arg-type]  # a wrapped method, as mypy sees it
    return model


def measuring_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def document_tokenizer(folder: Path, marks: DocumentMarks) -> DocumentTokenizer:
    """Load a model's tokenizer, with the marks of a document.

    Raises:
        ModelError: there is none, or it has no such token.
    """
    tokenizer = read_tokenizer(folder)
    check_marks(tokenizer, marks)
    return DocumentTokenizer(tokenizer, marks.bos, marks.eos)


def measured_with(folder: Path, max_length: int, marks: DocumentMarks) -> Windows:
    """The windows that `measure` uses; the part `measured` of `results.json`."""
    plain = plain_marks(read_tokenizer(folder))
    return Windows(
        max_length=max_length, stride=max_length // 2, bos=marks.bos is not None, before=marks.bos, plain=plain.bos
    )


def write_measurement(folder: Path, suites: Sequence[Suite[Any]], measured: Measurement) -> None:
    """Write `folder/measurement.json`, by document, question and prompt."""
    write_json(folder / "measurement.json", {suite.name: suite.to_json(measured[suite.name]) for suite in suites})


def read_measurement(folder: Path, suites: Sequence[Suite[Any]]) -> Measurement:
    """Read `folder/measurement.json` for these suites."""
    stored = read_json(folder / "measurement.json")
    return {suite.name: suite.from_json(stored[suite.name]) for suite in suites}
