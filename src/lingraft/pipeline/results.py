"""The results of a run: `results.json` and `training.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.checkpoints.names import public_name
from lingraft.evaluation.bits_per_byte import summarize
from lingraft.evaluation.compare import compare
from lingraft.evaluation.measure import Measurement, measured_with
from lingraft.pipeline.measure import Suites
from lingraft.pipeline.scales import SelectedScales, warn_of_new_tokens
from lingraft.pipeline.self_generated import SELF_GENERATED, GeneratedOverlap, GeneratedText
from lingraft.pipeline.text import TrainingData
from lingraft.pipeline.train import AdaptedModel
from lingraft.pipeline.values import Model, ModelArtefact
from lingraft.recipe import Recipe, Stage
from lingraft.schema import SCHEMA, FertilityChange, InstructResult, Overlap, Results, StageMeasured


@dataclass(frozen=True)
class StageResult:
    """One stage with its input and output artefacts."""

    name: str | None
    """None in a recipe of the short form."""
    stage: Stage
    data: TrainingData
    generated: Sequence[GeneratedText]
    adapted: AdaptedModel
    merged: ModelArtefact
    """The adapted model after the stage's own merge steps."""
    generated_overlap: GeneratedOverlap | None
    """Of self-generated text with what is measured; None without such text."""


@dataclass(frozen=True)
class Measured:
    """The scores of the models of a run."""

    base: Measurement
    between: Mapping[str, Measurement]
    """Text alone, of the model with new tokens and of each stage."""
    unrounded: Measurement
    """Text alone, of the result in float32."""
    after: Measurement
    instruct: Measurement | None
    """Of the instruct model that the language was added to."""


def build_results(
    recipe: Recipe,
    base: Model,
    suites: Suites,
    measured: Measured,
    fertility: FertilityChange,
    stages: Sequence[StageResult],
    scales: SelectedScales | None,
    lacking: Mapping[str, Mapping[str, str]],
) -> Results:
    """Compare the scores before and after, by language and task; `lacking` is what suites could not measure."""
    roles, extra = recipe.languages.roles, dict[str, Any]()
    if measured.between:
        extra["stages"] = along = stage_results(recipe, measured.between, measured.base)
        if recipe.vocabulary:
            warn_of_new_tokens(recipe.max_forgetting, along[0].forgetting)
    if measured.instruct and recipe.instruct:
        against = compare(suites.all, measured.after, measured.instruct, roles)
        extra["instruct"] = InstructResult(base=public_name(recipe.instruct), **against)
    if lacking:
        extra["lacking"] = lacking
    if scales:
        extra["max_forgetting"] = scales.record
    compared = compare(suites.all, measured.after, measured.base, roles)
    if recipe.evaluation.self_generated:
        compared["languages"][recipe.evaluation.self_generated].self_generated = True
    return Results(
        schema=SCHEMA,
        base=public_name(recipe.base),
        model="model",
        measured=measured_with(base.folder, recipe.length, recipe.marks),
        **compared,
        fertility=fertility,
        overlap=_overlap(stages),
        **extra,
    )


def stage_results(recipe: Recipe, between: Mapping[str, Measurement], base: Measurement) -> list[StageMeasured]:
    """Return bits per byte, learning and forgetting of the models between base and result."""
    found = []
    for name, measured in between.items():
        scores = measured["text"]
        bits = {code: score.bits_per_byte for code, score in scores.items()}
        sums = summarize(scores, base["text"], recipe.languages.roles)
        found.append(StageMeasured(name=name, languages=bits, **sums))
    return found


def training_log(stages: Sequence[StageResult]) -> dict[str, Any]:
    """Return the content of `training.json`."""
    if not stages[0].name:
        return stages[0].adapted.record
    return {
        "stages": [
            {"name": stage.name, "kind": "instructions" if stage.stage.instructions else "text", **stage.adapted.record}
            for stage in stages
        ]
    }


def _overlap(stages: Sequence[StageResult]) -> list[Overlap]:
    """Return, by stage and entry, and of self-generated text, the documents that share text with what is measured."""
    found = []
    for stage in stages:
        entries = zip([entry["language"] for entry in stage.data.mix["entries"]], stage.data.overlap, strict=True)
        generated = [(SELF_GENERATED, stage.generated_overlap.record)] if stage.generated_overlap else []
        of_stage = {"stage": stage.name} if stage.name else {}
        found += [
            Overlap.model_validate({**of_stage, "language": language, **overlap})
            for language, overlap in [*entries, *generated]
        ]
    return found
