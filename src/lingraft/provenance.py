"""Where a model comes from: `lingraft.json`, beside the results and inside the model's folder."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from lingraft.artefacts import read_json, stage_fingerprint
from lingraft.checkpoints.read import find_model, model_fingerprint
from lingraft.evaluation.measure import read_measurement
from lingraft.methods.stack import Part, by_group
from lingraft.recipe import Recipe

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors")


def versions() -> dict[str, str]:
    """Installed versions of this package and of what its numbers depend on."""
    return {name: version(name) for name in ("lingraft", *LIBRARIES)}


def _origin(recipe: Recipe, base: Path) -> dict[str, Any]:
    """The model that a vector of this one is measured from: the instruct model, where the language went to one."""
    trained_from = {"name": recipe.base, "fingerprint": model_fingerprint(base)}
    if recipe.instruct is None:
        return {"base": trained_from}
    instruct = {"name": recipe.instruct, "fingerprint": model_fingerprint(find_model(recipe.instruct))}
    return {"base": instruct, "trained_from": trained_from}


def _beside(recipe: Recipe) -> dict[str, Any]:
    """What stands beside the method, where it is given."""
    penalties = {name: penalty.model_dump() for name, penalty in recipe.penalties.given.items()}
    others = {"replay": recipe.replay, "early_stopping": recipe.early_stopping}
    return {
        **({"penalties": penalties} if penalties else {}),
        **{name: of.model_dump() for name, of in others.items() if of is not None},
    }


def provenance(
    recipe: Recipe,
    base: Path,
    tables: list[Path],
    blocks: Path,
    adapted: Path,
    exported: Path,
    unrounded: Path,
    self_written: dict[str, Any] | None,
    plan: str,
) -> dict[str, Any]:
    """What went into a model, and what was checked on the way out; `plan` is the text of the plan."""
    training = read_json(adapted / "training.json")
    mixed = read_json(blocks / "mix.json")
    groups = by_group(Part(**part) for part in training["stack"])
    return {
        "versions": versions(),
        "plan": plan,
        **_origin(recipe, base),
        "corpus": [
            {**entry, "fingerprint": stage_fingerprint(table), "left_out": read_json(table / "corpus.json")["dropped"]}
            for entry, table in zip(mixed["entries"], tables, strict=True)
        ],
        "tokens": mixed["tokens"],
        **({"self_written": self_written} if self_written else {}),
        "method": recipe.method.model_dump(),
        **_beside(recipe),
        **({"after": [step.model_dump(mode="json") for step in recipe.after]} if recipe.after else {}),
        "weights": {
            "base": {group: of.weights for group, of in groups.items()},
            "trained": {group: trained for group, of in groups.items() if (trained := of.in_full + of.in_adapters)},
        },
        "stack": training["stack"],
        "trainable": training["trainable"],
        "steps": training["steps"],
        "seconds_since_last_start": round(training["seconds"], 1),
        "export": {
            "form": recipe.export,
            **read_json(exported / "export.json"),
            "merge_difference": training["merge_difference"],
            "bits_per_byte_unrounded": {
                code: of.bits_per_byte for code, of in read_measurement(unrounded).scores.items()
            },
        },
    }
