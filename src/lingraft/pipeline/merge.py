"""Steps after training: checkpoints merged, scales selected, the result exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lingraft.cache import read_json, write_json
from lingraft.checkpoints.export import probe_logits, round_weights, verify_model, write_model
from lingraft.checkpoints.read import read_model, stored_dtype
from lingraft.merging.assemble import write_combination
from lingraft.merging.source_model import SourceModel, open_source_model
from lingraft.methods import Export
from lingraft.pipeline.step import step
from lingraft.pipeline.values import Model, ModelArtefact
from lingraft.recipe.combination import combination
from lingraft.recipe.merge_steps import Step


def merge(work: Path, steps: Sequence[Step], adapted: ModelArtefact, changed_from: Model, base: Model) -> ModelArtefact:
    """Apply merge steps to a trained model in float32; without steps, return the trained model.

    A step works on the change of the weights since `changed_from`, the model that training began with.
    """
    if not steps:
        return adapted
    others = [open_source_model(name, open_source_model(changed_from.folder)) for one in steps for name in one.models]
    return merge_checkpoints(work / "combined", steps, adapted.model, changed_from, base, others)


@step(ModelArtefact)
def merge_checkpoints(
    folder: Path, steps: Sequence[Step], adapted: Model, start: Model, base: Model, others: Sequence[SourceModel]
) -> None:
    """`model`: one sum of checkpoints, in float32. `others` are those that the steps name."""
    del others  # opened again by their names, as part of one combination
    (folder / "model").mkdir()
    models = (open_source_model(model.folder) for model in (adapted, start, base))
    write_combination(combination(steps, *models), folder / "model")


def check_merge(steps_of_each: Sequence[Sequence[Step]], base: Path, start: Path) -> None:
    """Check merge steps before training; `start`, where training begins, stands for the trained model.

    Raises:
        ModelError: models that cannot be had, or do not fit the base.
    """
    for steps in steps_of_each:
        if steps:
            combination(steps, open_source_model(start), open_source_model(start), open_source_model(base))


class ExportedModel(ModelArtefact):
    """`model`, as it is published; `export.json`."""

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = read_json(self.folder / "export.json")
        return record


@step(ExportedModel)
def export(folder: Path, model: Model, like: Model, form: Export) -> None:
    """Round the result once to the dtype of the base's file, write it, load it again and compare the logits."""
    del form  # the model has it already
    dtype = stored_dtype(like.folder)
    rounded = round_weights(read_model(model.folder, torch.float32), dtype)
    write_model(rounded, model.folder, folder / "model")
    difference = verify_model(folder / "model", probe_logits(rounded, rounded.config), dtype)
    write_json(folder / "export.json", {"dtype": str(dtype).removeprefix("torch."), "logits_difference": difference})
