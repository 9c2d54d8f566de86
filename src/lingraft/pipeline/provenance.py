"""Provenance of a model: `lingraft.json`, beside the results and inside the model's folder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from lingraft.checkpoints.names import public_name, without_places
from lingraft.checkpoints.read import find_model
from lingraft.methods.parameter_counts import Part, by_group
from lingraft.pipeline.merge import ExportedModel
from lingraft.pipeline.plan import whole_plan
from lingraft.pipeline.results import Measured, StageResult
from lingraft.pipeline.self_generated import generated_record
from lingraft.pipeline.text import TrainingData
from lingraft.pipeline.values import Model
from lingraft.pipeline.vocabulary import ExtendedModel
from lingraft.recipe import Recipe, Stage

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors")


def versions() -> dict[str, str]:
    """Return the installed versions of lingraft and of the libraries that compute."""
    return {name: version(name) for name in ("lingraft", *LIBRARIES)}


def _origin(recipe: Recipe, base: Model) -> dict[str, Any]:
    """Record the model that a task vector is measured from: the base, or the instruct model after an instruct step."""
    trained_from = {"name": public_name(recipe.base), "fingerprint": base.fingerprint}
    if recipe.instruct is None:
        return {"base": trained_from}
    instruct = {"name": public_name(recipe.instruct), "fingerprint": Model(find_model(recipe.instruct)).fingerprint}
    return {"base": instruct, "trained_from": trained_from}


def _beside(stage: Stage) -> dict[str, Any]:
    """Record penalties, replay, early stopping, averaging and merge steps, if given."""
    penalties = stage.penalties.record
    others = {"replay": stage.replay, "early_stopping": stage.early_stopping, "averaging": stage.averaging}
    return {
        **({"penalties": penalties} if penalties else {}),
        **{name: settings.model_dump() for name, settings in others.items() if settings is not None},
        **({"merge_steps": [step.model_dump(mode="json") for step in stage.merge]} if stage.merge else {}),
    }


def _training(result: StageResult) -> dict[str, Any]:
    """Record the text, the method and the trained parameters of a stage."""
    stage, training, mixed = result.stage, result.adapted.record, result.data.mix
    groups = by_group(Part(**part) for part in training["stack"])
    own = generated_record(result.data, result.generated)
    return {
        "corpus": _instructions(result.data) if stage.instructions else _corpus(result.data),
        "tokens": mixed["tokens"],
        **({"self_generated": own} if own else {}),
        "method": stage.method.model_dump(),
        **_beside(stage),
        "weights": {
            "base": {group: sums.weights for group, sums in groups.items()},
            "trained": {
                group: trained for group, sums in groups.items() if (trained := sums.in_full + sums.in_adapters)
            },
        },
        "stack": training["stack"],
        "trainable": training["trainable"],
        "steps": training["steps"],
    }


def _corpus(data: TrainingData) -> list[dict[str, Any]]:
    return [
        {**entry, "fingerprint": documents.fingerprint, "left_out": documents.record["dropped"]}
        for entry, documents in zip(data.mix["entries"], data.documents, strict=True)
    ]


def _instructions(data: TrainingData) -> list[dict[str, Any]]:
    """Record instructions without their overlap, which quotes the user's text."""
    return [
        {**{key: value for key, value in entry.items() if key != "overlap"}, "fingerprint": data.training.fingerprint}
        for entry in data.mix["entries"]
    ]


def provenance(
    recipe: Recipe,
    base: Model,
    extended: ExtendedModel | None,
    stages: Sequence[StageResult],
    exported: ExportedModel,
    measured: Measured,
) -> dict[str, Any]:
    """Record what went into a model, and what was checked at export."""
    records = [({"name": stage.name} if stage.name else {}) | _training(stage) for stage in stages]
    steps = [step.model_dump(mode="json") for step in recipe.merge]
    record = {
        "versions": versions(),
        "plan": whole_plan(recipe, with_memory_left=False),
        **_origin(recipe, base),
        **({"vocabulary": extended.record} if extended else {}),
        **(records[0] if recipe.is_short else {"stages": records}),
        **({"merge_steps": steps} if steps else {}),
        "export": {
            "form": recipe.export,
            **exported.record,
            "merge_difference": stages[-1].adapted.record["merge_difference"],
            "bits_per_byte_unrounded": {
                code: score.bits_per_byte for code, score in measured.unrounded["text"].items()
            },
        },
    }
    published: dict[str, Any] = without_places(record)
    return published
