"""Measure a model folder on suites, and keep the measurement as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lingraft.cache import read_json, write_json
from lingraft.checkpoints.read import read_model, read_tokenizer
from lingraft.evaluation.suite import Suite
from lingraft.schema import Windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Measurement = Mapping[str, Mapping[str, Any]]
"""Suite -> language -> measurement."""


def measure(folder: Path, suites: Sequence[Suite[Any]], max_length: int) -> Measurement:
    """Measure one model on every suite: on a CPU in float32, on a GPU in the stored dtype."""
    model, tokenizer = model_to_measure(folder), read_tokenizer(folder)
    return {suite.name: suite.measure(model, tokenizer, max_length) for suite in suites}


def model_to_measure(folder: Path) -> PreTrainedModel:
    """Load the model to measure: on a CPU in float32, on a GPU in the stored dtype."""
    device = measuring_device()
    model = read_model(folder, torch.float32 if device == "cpu" else "auto")
    model.to(torch.device(device))  # type: ignore[arg-type]  # a wrapped method, as mypy sees it
    return model


def measuring_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def measured_with(folder: Path, max_length: int) -> Windows:
    """The windows that `measure` uses; the part `measured` of `results.json`."""
    has_bos = read_tokenizer(folder).bos_token_id is not None
    return Windows(max_length=max_length, stride=max_length // 2, bos=has_bos)


def write_measurement(folder: Path, suites: Sequence[Suite[Any]], measured: Measurement) -> None:
    """Write `folder/measurement.json`, by document, question and prompt."""
    write_json(folder / "measurement.json", {suite.name: suite.to_json(measured[suite.name]) for suite in suites})


def read_measurement(folder: Path, suites: Sequence[Suite[Any]]) -> Measurement:
    """Read `folder/measurement.json` for these suites."""
    stored = read_json(folder / "measurement.json")
    return {suite.name: suite.from_json(stored[suite.name]) for suite in suites}
