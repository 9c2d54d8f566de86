"""Stages of models: measure, adapt, combine, export."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from lingraft.artefacts import fingerprint, finished, stage_fingerprint, write_json
from lingraft.checkpoints.assemble import write_combination
from lingraft.checkpoints.export import probe_logits, round_weights, verify_model, write_model
from lingraft.checkpoints.parents import open_parent
from lingraft.checkpoints.read import find_model, model_fingerprint, read_model, read_tokenizer, stored_dtype
from lingraft.corpus.tokenize import open_table
from lingraft.errors import TrainingError
from lingraft.evaluation.gates import gate_activity
from lingraft.evaluation.measure import EvaluationSet, measure, measuring_device, write_measurement
from lingraft.layer_groups import depth
from lingraft.methods import Adaptation
from lingraft.methods.stack import Part, by_group, stack
from lingraft.recipe import Recipe
from lingraft.recipe.after import Step, combination
from lingraft.stages import one_after_another
from lingraft.stages.written import SELF_WRITTEN, written_share
from lingraft.training.arguments import mixed_precision, training_arguments
from lingraft.training.batches import TrainingText
from lingraft.training.trainer import DIVERGED, train

logger = logging.getLogger(__name__)

MERGE_TOLERANCE = 1e-3
"""Largest difference of logits between adapters beside a weight and folded into it, in float32."""


def measure_model(recipe: Recipe, model: Path, mark: str, on: EvaluationSet, path: Path) -> Path:
    """`measurement.json`: what a model, which `mark` tells apart from others, makes of an evaluation set."""
    inputs = {
        "model": mark,
        **on.fingerprint,
        "max_length": recipe.max_length,
        "device": measuring_device(),
    }

    def make(folder: Path) -> None:
        write_measurement(folder, measure(model, on, recipe.length))

    return one_after_another(path, inputs, make)


def measure_instruct(recipe: Recipe, on: EvaluationSet, path: Path) -> Path | None:
    """As `measure_model`, for the instruct model that `after:` adds the language to, where there is one."""
    if recipe.instruct is None:
        return None
    instruct = find_model(recipe.instruct)
    return measure_model(recipe, instruct, model_fingerprint(instruct), on, path)


def training_began(work: Path) -> bool:
    """Whether there is training in this folder that would be lost with it."""
    return (work / "adapted").exists() or any(work.glob("training-*/checkpoint-*"))


def adapt(recipe: Recipe, base: Path, blocks: Path, written: Sequence[Path], work: Path) -> Path:
    """Train; leaves `model`, float32 in the form of the export, `adapter` where there is one, `training.json`."""
    path = work / "adapted"
    inputs = {
        "base": model_fingerprint(base),
        "blocks": stage_fingerprint(blocks),
        "written": [stage_fingerprint(part) for part in written],
        "replay": recipe.replay and recipe.replay.model_dump(),
        "method": recipe.method.model_dump(),
        "penalties": recipe.penalties.model_dump(),
        "early_stopping": recipe.early_stopping and recipe.early_stopping.model_dump(),
        "training": recipe.training,
        "export": recipe.form,
        "seed": recipe.seed,
    }
    checkpoints = work / f"training-{fingerprint(inputs)}"
    for other in work.glob("training-*"):
        if other != checkpoints:
            logger.warning("%s: removed, text, base or settings changed since it was begun", other.name)
            shutil.rmtree(other, ignore_errors=True)
    if finished(path, inputs):
        return path
    arguments = training_arguments(recipe.training, checkpoints, recipe.seed)
    torch.manual_seed(recipe.seed)
    model = read_model(base, "auto" if mixed_precision(recipe.training) else torch.float32)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    adaptation = recipe.method.apply(model)
    parts = stack(sizes, adaptation, recipe.method.layers(depth(adaptation.plain.config)))
    _say_what_trains(recipe.method.name, parts)
    if adaptation.local_loss is not None and not _has_old_text(recipe):
        logger.warning("no text of retained languages trains: the local loss cannot tell old text from new")
    pulls = [penalty.prepare(adaptation.model, base) for penalty in recipe.penalties.given.values()]
    patience = recipe.early_stopping.patience if recipe.early_stopping else None
    text = _training_text(recipe, blocks, written)
    outcome = train(adaptation, text, arguments, pulls, patience)
    gates = gate_activity(adaptation.plain, text.validation)

    def make(folder: Path) -> None:
        difference = _write_adapted(recipe, adaptation, base, folder)
        write_json(
            folder / "training.json",
            {
                "steps": outcome.num_steps,
                **({"best_step": outcome.best_step} if outcome.best_step is not None else {}),
                "seconds": outcome.seconds,
                "trainable": list(adaptation.trainable),
                "stack": [asdict(part) for part in parts],
                "merge_difference": difference,
                **({"gates": gates} if gates else {}),
                "log": outcome.log,
            },
        )

    one_after_another(path, inputs, make)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return path


def _training_text(recipe: Recipe, blocks: Path, written: Sequence[Path]) -> TrainingText:
    from datasets import concatenate_datasets

    codes, learn = list(recipe.languages.roles), recipe.languages.learn
    return TrainingText(
        blocks=open_table(blocks / "training.arrow"),
        languages=[*codes, *([SELF_WRITTEN] if written else [])],
        learned=learn,
        validation={code: open_table(blocks / f"validation-{code}.arrow") for code in codes},
        written=concatenate_datasets([open_table(part / "blocks.arrow") for part in written]) if written else None,
        weights=recipe.replay.weights(written_share(blocks, written)) if recipe.replay else (1.0, 1.0),
        choice=(
            concatenate_datasets([open_table(blocks / f"choice-{code}.arrow") for code in learn])
            if recipe.early_stopping
            else None
        ),
    )


def _has_old_text(recipe: Recipe) -> bool:
    return recipe.replay is not None or any(entry.language in recipe.languages.retain for entry in recipe.corpus)


def _say_what_trains(method: str, parts: Sequence[Part]) -> None:
    """Before the first step, per layer group."""
    trained = {group: of.in_full + of.in_adapters for group, of in by_group(parts).items()}
    shown = ", ".join(f"{group} {count:,}" for group, count in trained.items() if count)
    logger.info("%s trains %s weights: %s", method, f"{sum(trained.values()):,}", shown)


def _write_adapted(recipe: Recipe, adaptation: Adaptation, base: Path, folder: Path) -> float:
    """Fold the adaptation into a plain float32 model, save it, and check it against the live one."""
    if adaptation.adapter is not None:
        adaptation.adapter.peft_config["default"].base_model_name_or_path = recipe.base
        adaptation.adapter.save_pretrained(folder / "adapter", save_embedding_layers=False)
    config = adaptation.model.config
    live = probe_logits(adaptation.model.cpu().float(), config)
    if not live.isfinite().all():
        raise TrainingError(f"the trained model's logits are not numbers; {DIVERGED}")
    write_model(adaptation.exports[recipe.form](), read_tokenizer(base), base, folder / "model")
    return verify_model(folder / "model", live, torch.float32, MERGE_TOLERANCE)


def check_after(recipe: Recipe, base: Path) -> None:
    """Find out before training whether `after:` can be done; the base stands for the trained model.

    Raises:
        ModelError: models that cannot be had, or do not fit the base.
    """
    if recipe.after:
        opened = open_parent(base)
        combination(recipe.after, opened, opened)


def combine(recipe: Recipe, after: Sequence[Step], base: Path, adapted: Path, work: Path) -> Path:
    """`model`, what the steps of `after:` make of the trained one, in float32; `adapted` where there are none."""
    if not after:
        return adapted
    steps = combination(after, open_parent(adapted / "model"), open_parent(base))
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
        write_model(model, read_tokenizer(made / "model"), made / "model", folder / "model")
        difference = verify_model(folder / "model", probe_logits(model, model.config), dtype)
        write_json(
            folder / "export.json", {"dtype": str(dtype).removeprefix("torch."), "logits_difference": difference}
        )

    inputs = {"adapted": stage_fingerprint(made), "export": recipe.export}
    return one_after_another(work / "exported", inputs, make)
