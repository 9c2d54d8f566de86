"""Measure a model folder on texts, language by language; scores are kept as JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lingraft.artefacts import read_json, write_json
from lingraft.checkpoints.read import read_model, read_tokenizer
from lingraft.evaluation.bits_per_byte import DocumentScores, score

logger = logging.getLogger(__name__)


def measure(folder: Path, texts: Mapping[str, Sequence[str]], max_length: int) -> dict[str, DocumentScores]:
    """Scores per language: on a CPU in float32, on a GPU in the type of the file."""
    device = measuring_device()
    model = read_model(folder, torch.float32 if device == "cpu" else "auto")
    model.to(torch.device(device))  # type: ignore[arg-type]  # a wrapped method, as mypy sees it
    tokenizer = read_tokenizer(folder)
    scores = {}
    for language, documents in texts.items():
        scores[language] = score(model, tokenizer, documents, max_length, _Progress(language))
        logger.info("%s: %.4f bits per byte", language, scores[language].bits_per_byte)
    return scores


def measuring_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class _Progress:
    """A log line a minute, for texts that take longer."""

    def __init__(self, language: str) -> None:
        self.language, self.said = language, time.monotonic()

    def __call__(self, share: float) -> None:
        if time.monotonic() - self.said > 60 and share < 1:
            self.said = time.monotonic()
            logger.info("%s: %.0f %% measured", self.language, 100 * share)


def measured_with(folder: Path, max_length: int) -> dict[str, Any]:
    """How `measure` reads text; the part `measured` of `results.json`."""
    return {
        "max_length": max_length,
        "stride": max_length // 2,
        "bos": read_tokenizer(folder).bos_token_id is not None,
    }


def write_scores(path: Path, scores: Mapping[str, DocumentScores]) -> None:
    """Per language and document: nats, bytes, tokens; in `path/scores.json`."""
    write_json(
        path / "scores.json",
        {
            language: {
                "nats": of.nats.tolist(),
                "bytes": of.num_bytes.tolist(),
                "tokens": of.num_tokens.tolist(),
            }
            for language, of in scores.items()
        },
    )


def read_scores(path: Path) -> dict[str, DocumentScores]:
    """What `write_scores` wrote."""
    stored: dict[str, dict[str, Any]] = read_json(path / "scores.json")
    return {
        language: DocumentScores(
            nats=np.array(of["nats"], dtype=np.float64),
            num_bytes=np.array(of["bytes"], dtype=np.int64),
            num_tokens=np.array(of["tokens"], dtype=np.int64),
        )
        for language, of in stored.items()
    }
