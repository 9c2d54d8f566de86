"""Measure a model folder on an evaluation set; what came out is kept as JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lingraft.cache import fingerprint, read_json, write_json
from lingraft.checkpoints.read import read_model, read_tokenizer
from lingraft.errors import CorpusError
from lingraft.evaluation.bits_per_byte import DocumentScores, score
from lingraft.evaluation.multiple_choice import Answers, Tasks, answer
from lingraft.evaluation.samples import Prompt, continue_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSet:
    """What models are measured on: by language, documents and prompts; by task and language, questions."""

    texts: Mapping[str, Sequence[str]]
    tasks: Tasks = field(default_factory=dict)
    prompts: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)

    @property
    def texts_alone(self) -> EvaluationSet:
        return EvaluationSet(self.texts)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What stands for it among the inputs of an artefact."""
        return {
            "texts": {code: fingerprint(list(of)) for code, of in self.texts.items()},
            "tasks": {
                task: {code: fingerprint([q.model_dump() for q in of]) for code, of in by_language.items()}
                for task, by_language in self.tasks.items()
            },
            "prompts": {code: fingerprint(of) for code, of in self.prompts.items()},
        }


@dataclass(frozen=True)
class Measurement:
    """What an evaluation set gave under one model, in the same shape."""

    scores: Mapping[str, DocumentScores]
    answers: Mapping[str, Mapping[str, Answers]]
    continuations: Mapping[str, Sequence[str]]


def measure(folder: Path, on: EvaluationSet, max_length: int) -> Measurement:
    """Scores, answers and continuations: on a CPU in float32, on a GPU in the type of the file."""
    model = model_to_measure(folder)
    tokenizer = read_tokenizer(folder)
    scores = {}
    for language, documents in on.texts.items():
        scores[language] = score(model, tokenizer, documents, max_length, _Progress(language))
        if not scores[language].num_tokens.any():
            raise CorpusError(f"{language}: no token of the text can be scored; give longer documents")
        logger.info("%s: %.4f bits per byte", language, scores[language].bits_per_byte)
    answers: dict[str, dict[str, Answers]] = {}
    for task, by_language in on.tasks.items():
        answers[task] = {
            language: answer(model, tokenizer, questions, max_length, _Progress(f"{task} {language}"))
            for language, questions in by_language.items()
        }
        shown = "  ".join(f"{language} {100 * of.accuracy:.1f} %" for language, of in answers[task].items())
        logger.info("%s: %s", task, shown)
    continuations = {
        language: continue_prompts(model, tokenizer, prompts, max_length) for language, prompts in on.prompts.items()
    }
    return Measurement(scores, answers, continuations)


def model_to_measure(folder: Path) -> PreTrainedModel:
    """The model where it is measured: on a CPU in float32, on a GPU in the type of the file."""
    device = measuring_device()
    model = read_model(folder, torch.float32 if device == "cpu" else "auto")
    model.to(torch.device(device))  # type: ignore[arg-type]  # a wrapped method, as mypy sees it
    return model


def measuring_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class _Progress:
    """A log line a minute, for what takes longer."""

    def __init__(self, name: str) -> None:
        self.name, self.said = name, time.monotonic()

    def __call__(self, share: float) -> None:
        if time.monotonic() - self.said > 60 and share < 1:
            self.said = time.monotonic()
            logger.info("%s: %.0f %% measured", self.name, 100 * share)


def measured_with(folder: Path, max_length: int) -> dict[str, Any]:
    """How `measure` reads text; the part `measured` of `results.json`."""
    return {
        "max_length": max_length,
        "stride": max_length // 2,
        "bos": read_tokenizer(folder).bos_token_id is not None,
    }


def write_measurement(folder: Path, of: Measurement) -> None:
    """Everything by document, question and prompt, in `folder/measurement.json`."""
    write_json(
        folder / "measurement.json",
        {
            "scores": {
                language: {
                    "nats": scores.nats.tolist(),
                    "bytes": scores.num_bytes.tolist(),
                    "tokens": scores.num_tokens.tolist(),
                }
                for language, scores in of.scores.items()
            },
            "answers": {
                task: {
                    language: {"correct": answers.correct.tolist(), "chance": answers.chance}
                    for language, answers in by_language.items()
                }
                for task, by_language in of.answers.items()
            },
            "continuations": of.continuations,
        },
    )


def read_measurement(folder: Path) -> Measurement:
    """What `write_measurement` wrote."""
    stored = read_json(folder / "measurement.json")
    return Measurement(
        scores={
            language: DocumentScores(
                nats=np.array(of["nats"], dtype=np.float64),
                num_bytes=np.array(of["bytes"], dtype=np.int64),
                num_tokens=np.array(of["tokens"], dtype=np.int64),
            )
            for language, of in stored["scores"].items()
        },
        answers={
            task: {
                language: Answers(np.array(of["correct"], dtype=bool), of["chance"])
                for language, of in by_language.items()
            }
            for task, by_language in stored["answers"].items()
        },
        continuations=stored["continuations"],
    )
