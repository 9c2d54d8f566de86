"""Stages of models: measure, combine, export."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from lingraft.artefacts import stage_fingerprint, write_json
from lingraft.checkpoints.assemble import write_combination
from lingraft.checkpoints.export import probe_logits, round_weights, verify_model, write_model
from lingraft.checkpoints.parents import open_parent
from lingraft.checkpoints.read import find_model, model_fingerprint, read_model, stored_dtype
from lingraft.evaluation.measure import EvaluationSet, measure, measuring_device, write_measurement
from lingraft.recipe import Recipe
from lingraft.recipe.after import Step, combination
from lingraft.stages import one_after_another


def measure_model(
    recipe: Recipe, model: Path, mark: str, on: EvaluationSet, path: Path, elsewhere: Iterable[Path] = ()
) -> Path:
    """`measurement.json`: what a model, which `mark` tells apart from others, makes of an evaluation set.

    It is copied where one of the same model and evaluation set lies `elsewhere`.
    """
    inputs = {
        "model": mark,
        **on.fingerprint,
        "max_length": recipe.max_length,
        "device": measuring_device(),
    }

    def make(folder: Path) -> None:
        write_measurement(folder, measure(model, on, recipe.length))

    return one_after_another(path, inputs, make, elsewhere)


def measure_instruct(recipe: Recipe, on: EvaluationSet, path: Path) -> Path | None:
    """As `measure_model`, for the instruct model that `after:` adds the language to, where there is one."""
    if recipe.instruct is None:
        return None
    instruct = find_model(recipe.instruct)
    return measure_model(recipe, instruct, model_fingerprint(instruct), on, path)


def check_after(recipe: Recipe, base: Path, start: Path) -> None:
    """Find out before training whether `after:` can be done; `start`, where training begins, stands for its result.

    Raises:
        ModelError: models that cannot be had, or do not fit the base.
    """
    for of in [recipe, *(recipe.stages or {}).values()]:
        if of.after:
            combination(of.after, open_parent(start), open_parent(start), open_parent(base))


def combine(after: Sequence[Step], base: Path, start: Path, adapted: Path, work: Path) -> Path:
    """`model`, what the steps of `after:` make of the trained one, in float32; `adapted` where there are none.

    They start from `start`, the model that training began with: the base itself, or what became of it.
    """
    if not after:
        return adapted
    steps = combination(after, open_parent(adapted / "model"), open_parent(start), open_parent(base))
    inputs = {
        "adapted": stage_fingerprint(adapted),
        "after": [step.model_dump(mode="json") for step in after],
        "models": [model.fingerprint for model in steps.rule.parents],
    }

    def make(folder: Path) -> None:
        (folder / "model").mkdir()
        write_combination(steps, folder / "model")

    return one_after_another(work / "combined", inputs, make)


def export(recipe: Recipe, base: Path, made: Path, work: Path) -> Path:
    """`model`, the result in the type of the base's file, rounded once; `export.json`."""

    def make(folder: Path) -> None:
        dtype = stored_dtype(base)
        model = round_weights(read_model(made / "model", torch.float32), dtype)
        write_model(model, made / "model", folder / "model")
        difference = verify_model(folder / "model", probe_logits(model, model.config), dtype)
        write_json(
            folder / "export.json", {"dtype": str(dtype).removeprefix("torch."), "logits_difference": difference}
        )

    inputs = {"adapted": stage_fingerprint(made), "export": recipe.export}
    return one_after_another(work / "exported", inputs, make)
