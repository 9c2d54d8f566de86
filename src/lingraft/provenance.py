"""Where a model comes from: `lingraft.json`, beside the results and inside the model's folder."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from lingraft.artefacts import read_json, stage_fingerprint
from lingraft.checkpoints.read import model_fingerprint
from lingraft.evaluation.measure import read_measurement
from lingraft.methods.stack import Part, by_group
from lingraft.recipe import Recipe

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors")


def versions() -> dict[str, str]:
    """Installed versions of this package and of what its numbers depend on."""
    return {name: version(name) for name in ("lingraft", *LIBRARIES)}


def provenance(
    recipe: Recipe,
    base: Path,
    tables: list[Path],
    blocks: Path,
    adapted: Path,
    exported: Path,
    unrounded: Path,
    plan: str,
) -> dict[str, Any]:
    """What went into a model, and what was checked on the way out; `plan` is the text of the plan."""
    training = read_json(adapted / "training.json")
    mixed = read_json(blocks / "mix.json")
    groups = by_group(Part(**part) for part in training["stack"])
    return {
        "versions": versions(),
        "plan": plan,
        "base": {"name": recipe.base, "fingerprint": model_fingerprint(base)},
        "corpus": [
            {**entry, "fingerprint": stage_fingerprint(table), "left_out": read_json(table / "corpus.json")["dropped"]}
            for entry, table in zip(mixed["entries"], tables, strict=True)
        ],
        "tokens": mixed["tokens"],
        "method": recipe.method.model_dump(),
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
            **read_json(exported / "export.json"),
            "merge_difference": training["merge_difference"],
            "bits_per_byte_unrounded": {
                code: of.bits_per_byte for code, of in read_measurement(unrounded).scores.items()
            },
        },
    }
