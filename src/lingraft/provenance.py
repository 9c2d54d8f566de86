"""Where a model comes from: `lingraft.json`, beside the results and inside the model's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lingraft.artefacts import read_json, stage_fingerprint
from lingraft.checkpoints.names import public_name, without_places
from lingraft.checkpoints.read import find_model, model_fingerprint
from lingraft.evaluation.measure import read_measurement
from lingraft.methods.stack import Part, by_group
from lingraft.recipe import Recipe
from lingraft.stages.training import Trained
from lingraft.stages.written import written_record

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors")


def versions() -> dict[str, str]:
    """Installed versions of this package and of what its numbers depend on."""
    return {name: version(name) for name in ("lingraft", *LIBRARIES)}


def _origin(recipe: Recipe, base: Path) -> dict[str, Any]:
    """The model that a vector of this one is measured from: the instruct model, where the language went to one."""
    trained_from = {"name": public_name(recipe.base), "fingerprint": model_fingerprint(base)}
    if recipe.instruct is None:
        return {"base": trained_from}
    instruct = {"name": public_name(recipe.instruct), "fingerprint": model_fingerprint(find_model(recipe.instruct))}
    return {"base": instruct, "trained_from": trained_from}


def _beside(recipe: Recipe) -> dict[str, Any]:
    """What stands beside the method, where it is given."""
    penalties = {name: penalty.model_dump() for name, penalty in recipe.penalties.given.items()}
    others = {"replay": recipe.replay, "early_stopping": recipe.early_stopping}
    return {
        **({"penalties": penalties} if penalties else {}),
        **{name: of.model_dump() for name, of in others.items() if of is not None},
        **({"after": [step.model_dump(mode="json") for step in recipe.after]} if recipe.after else {}),
    }


def _training(of: Trained) -> dict[str, Any]:
    """What one training was made of, and what trained in it."""
    recipe, training, mixed = of.recipe, read_json(of.adapted / "training.json"), read_json(of.text / "mix.json")
    groups = by_group(Part(**part) for part in training["stack"])
    own = written_record(of.text, of.written)
    return {
        "corpus": _instructions(mixed["entries"], of.text)
        if recipe.instructions
        else _corpus(mixed["entries"], of.tables),
        "tokens": mixed["tokens"],
        **({"self_written": own} if own else {}),
        "method": recipe.method.model_dump(),
        **_beside(recipe),
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


def _corpus(entries: Sequence[Mapping[str, Any]], tables: Sequence[Path]) -> list[dict[str, Any]]:
    return [
        {
            **_without_overlap(entry),
            "fingerprint": stage_fingerprint(table),
            "left_out": read_json(table / "corpus.json")["dropped"],
        }
        for entry, table in zip(entries, tables, strict=True)
    ]


def _instructions(entries: Sequence[Mapping[str, Any]], text: Path) -> list[dict[str, Any]]:
    return [{**_without_overlap(entry), "fingerprint": stage_fingerprint(text)} for entry in entries]


def _without_overlap(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A passage of the user's text stands in it, which is of `results.json`, and does not travel with the model."""
    return {key: value for key, value in entry.items() if key != "overlap"}


def provenance(
    recipe: Recipe,
    base: Path,
    words: Mapping[str, Any] | None,
    trainings: Mapping[str, Trained],
    exported: Path,
    unrounded: Path,
    plan: str,
) -> dict[str, Any]:
    """What went into a model, and what was checked on the way out.

    `words` says how its vocabulary grew, `trainings` what trained, by stage; `plan` is the text of the plan.
    """
    records = {name: _training(of) for name, of in trainings.items()}
    last = list(trainings.values())[-1].adapted
    after = [step.model_dump(mode="json") for step in recipe.after]
    record = {
        "versions": versions(),
        "plan": plan,
        **_origin(recipe, base),
        **({"vocabulary": words} if words else {}),
        **({"stages": [{"name": name, **of} for name, of in records.items()]} if recipe.stages else records[""]),
        **({"after": after} if after else {}),
        "export": {
            "form": recipe.export,
            **read_json(exported / "export.json"),
            "merge_difference": read_json(last / "training.json")["merge_difference"],
            "bits_per_byte_unrounded": {
                code: of.bits_per_byte for code, of in read_measurement(unrounded).scores.items()
            },
        },
    }
    published: dict[str, Any] = without_places(record)
    return published
