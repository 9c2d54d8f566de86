"""What the stages of a run left, and what is said of them in `results.json` and `training.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.pipeline.blocks import TrainingData
from lingraft.pipeline.documents import Documents
from lingraft.pipeline.self_generated import GeneratedText
from lingraft.pipeline.train import AdaptedModel
from lingraft.recipe import Stage


@dataclass(frozen=True)
class StageResult:
    """One stage, and the artefacts that went into it and came out of it."""

    name: str | None
    """None in a recipe of the short form."""
    stage: Stage
    documents: Sequence[Documents]
    data: TrainingData
    generated: Sequence[GeneratedText]
    adapted: AdaptedModel


def training_log(stages: Sequence[StageResult]) -> dict[str, Any]:
    """`training.json`: of one training, or of each of the stages."""
    if not stages[0].name:
        return stages[0].adapted.record
    return {
        "stages": [
            {"name": of.name, "kind": "instructions" if of.stage.instructions else "text", **of.adapted.record}
            for of in stages
        ]
    }


def overlap_of(stages: Sequence[StageResult]) -> list[dict[str, Any]]:
    """By stage and entry of its text: the documents that shared text with what is measured, and did not train."""
    return [
        {**({"stage": of.name} if of.name else {}), "language": entry["language"], **entry["overlap"]}
        for of in stages
        for entry in of.data.mix["entries"]
    ]
