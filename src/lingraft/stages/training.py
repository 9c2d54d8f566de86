"""Stage of training: a model adapted by a method, on text or on instructions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lingraft.artefacts import fingerprint, finished, read_json, stage_fingerprint, write_json, write_text
from lingraft.checkpoints.beside import copy_tokenizer
from lingraft.checkpoints.cards import adapter_card
from lingraft.checkpoints.chat_template import end_of_turn, set_chat_template, stop_at, tokenizer_for_chat
from lingraft.checkpoints.export import probe_logits, verify_model, write_model
from lingraft.checkpoints.names import on_hub, public_name
from lingraft.checkpoints.read import find_model, model_fingerprint, read_config, read_model, read_tokenizer
from lingraft.corpus.read import read_records
from lingraft.corpus.tokenize import open_table
from lingraft.disk import mark, remove
from lingraft.errors import TrainingError
from lingraft.evaluation.gates import gate_activity
from lingraft.layer_groups import depth
from lingraft.methods import Adaptation
from lingraft.methods.stack import Part, by_group, stack
from lingraft.recipe import Recipe
from lingraft.stages import one_after_another
from lingraft.stages.written import SELF_WRITTEN, written_share
from lingraft.training.arguments import mixed_precision, training_arguments
from lingraft.training.batches import TrainingText
from lingraft.training.graft_trainer import DIVERGED, TrainingOutcome
from lingraft.training.schedule import sequences_at_once
from lingraft.training.trainer import train

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase, TrainingArguments

    from lingraft.penalties import Pull

logger = logging.getLogger(__name__)

MERGE_TOLERANCE = 1e-3
"""Largest difference of logits between adapters beside a weight and folded into it, in float32."""

FEWEST_THAT_DECIDE = 8
"""Blocks; fewer would stop training by chance."""

_CHECKPOINTS = "training-*/checkpoint-*"


@dataclass(frozen=True)
class Trained:
    """One training, and the artefacts that went into it and came out of it."""

    recipe: Recipe
    tables: Sequence[Path]
    """The documents of each entry of its corpus."""
    text: Path
    """What was made of them, or of instructions."""
    written: Sequence[Path]
    """Text that the base wrote itself."""
    adapted: Path


def training_log(trainings: Mapping[str, Trained]) -> dict[str, Any]:
    """`training.json`: of one training, or of each of the stages."""
    logs = {name: read_json(of.adapted / "training.json") for name, of in trainings.items()}
    if "" in logs:
        alone: dict[str, Any] = logs[""]
        return alone
    kinds = {name: "instructions" if of.recipe.instructions else "text" for name, of in trainings.items()}
    return {"stages": [{"name": name, "kind": kinds[name], **log} for name, log in logs.items()]}


def training_began(work: Path) -> bool:
    """Whether there is training in this folder that would be lost with it."""
    return any(any(work.glob(f"{stage}{of}")) for stage in ("", "stage-*/") for of in ("adapted", _CHECKPOINTS))


def adapt(recipe: Recipe, base: Path, blocks: Path, written: Sequence[Path], work: Path) -> Path:
    """Train; leaves `model`, float32 in the form of the export, `adapter` where there is one, `training.json`."""
    path = work / "adapted"
    tokenizer = tokenizer_for_chat(base, recipe.chat_template) if recipe.instructions else read_tokenizer(base)
    inputs = {
        "base": model_fingerprint(base),
        "blocks": stage_fingerprint(blocks),
        "written": [stage_fingerprint(part) for part in written],
        "replay": recipe.replay and recipe.replay.model_dump(),
        "method": recipe.method.model_dump(),
        **({"chat_template": tokenizer.chat_template} if recipe.instructions else {}),
        "penalties": recipe.penalties.model_dump(),
        "early_stopping": recipe.early_stopping and recipe.early_stopping.model_dump(),
        "training": recipe.training,
        "export": recipe.form,
        "seed": recipe.seed,
    }
    checkpoints = work / f"training-{fingerprint(inputs)}"
    for other in work.glob(f"training-{'[0-9a-f]' * 16}"):
        if other != checkpoints:
            logger.warning("%s: removed, text, base or settings changed since it was begun", other.name)
            remove(other)
    if finished(path, inputs):
        remove(checkpoints)
        return path
    mark(checkpoints)
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
    if recipe.instructions:
        outcome = _learn_instructions(recipe, adaptation, tokenizer, blocks, arguments, pulls)
    else:
        patience = recipe.early_stopping.patience if recipe.early_stopping else None
        outcome = train(adaptation, _training_text(recipe, blocks, written), arguments, pulls, patience)
    gates = gate_activity(adaptation.plain, _validation(recipe, blocks))

    def make(folder: Path) -> None:
        difference = _write_adapted(recipe, adaptation, tokenizer, base, folder)
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
    remove(checkpoints)
    return path


def _learn_instructions(
    recipe: Recipe,
    adaptation: Adaptation,
    tokenizer: PreTrainedTokenizerBase,
    instructions: Path,
    arguments: TrainingArguments,
    pulls: Sequence[Pull],
) -> TrainingOutcome:
    from lingraft.training.instruct import instruct

    def read(name: str) -> list[dict[str, Any]]:
        return [record for _, record in read_records([instructions / f"{name}.jsonl"])]

    languages = dict.fromkeys(entry.language for entry in recipe.instructions or [])
    validation = {code: read(f"validation-{code}") for code in languages}
    return instruct(adaptation, tokenizer, read("training"), validation, arguments, recipe.length, pulls)


def _training_text(recipe: Recipe, blocks: Path, written: Sequence[Path]) -> TrainingText:
    from datasets import concatenate_datasets

    codes, learn = list(recipe.languages.roles), recipe.languages.learn
    validation = _validation(recipe, blocks)
    return TrainingText(
        blocks=open_table(blocks / "training.arrow"),
        languages=[*codes, *([SELF_WRITTEN] if written else [])],
        learned=learn,
        validation=validation,
        written=concatenate_datasets([open_table(part / "blocks.arrow") for part in written]) if written else None,
        weights=recipe.replay.weights(written_share(blocks, written)) if recipe.replay else (1.0, 1.0),
        choice=(
            concatenate_datasets([_choice(recipe, blocks, code, len(validation[code])) for code in learn])
            if recipe.early_stopping
            else None
        ),
    )


def _validation(recipe: Recipe, blocks: Path) -> dict[str, Dataset]:
    return {code: open_table(blocks / f"validation-{code}.arrow") for code in recipe.languages.roles}


def _choice(recipe: Recipe, blocks: Path, code: str, num_validated: int) -> Dataset:
    """Blocks that decide when to stop: about as many as are looked at, for both are at every evaluation."""
    table = open_table(blocks / f"choice-{code}.arrow")
    most = recipe.validation.blocks or max(FEWEST_THAT_DECIDE, num_validated)
    return table.select(range(min(len(table), most)))


def check_takes_a_step(recipe: Recipe, blocks: Path) -> None:
    """Refuse text that is less than a batch, where what is less is dropped, before the base is measured.

    Raises:
        TrainingError: names the settings.
    """
    if not recipe.training.get("dataloader_drop_last"):
        return
    if recipe.instructions:
        rows = sum(1 for _ in read_records([blocks / "training.jsonl"]))
    else:
        rows = ceil(read_json(blocks / "mix.json")["blocks"] / (1 - recipe.written_share))
    batch = sequences_at_once(recipe.training)
    if rows < batch:
        raise TrainingError(
            f"training.dataloader_drop_last drops all that there is: {rows} rows are less than a batch of {batch}; "
            "lower per_device_train_batch_size, or take dataloader_drop_last out"
        )


def _has_old_text(recipe: Recipe) -> bool:
    return recipe.replay is not None or any(
        code in recipe.languages.retain for entry in recipe.corpus for code in entry.languages
    )


def _say_what_trains(method: str, parts: Sequence[Part]) -> None:
    """Before the first step, per layer group."""
    trained = {group: of.in_full + of.in_adapters for group, of in by_group(parts).items()}
    shown = ", ".join(f"{group} {count:,}" for group, count in trained.items() if count)
    logger.info("%s trains %s weights: %s", method, f"{sum(trained.values()):,}", shown)


def _write_adapted(
    recipe: Recipe, adaptation: Adaptation, tokenizer: PreTrainedTokenizerBase, base: Path, folder: Path
) -> float:
    """Fold the adaptation into a plain float32 model, save it, and check it against the live one."""
    template = tokenizer.chat_template if recipe.instructions else None
    if template == read_tokenizer(base).chat_template:
        template = None
    if adaptation.adapter is not None:
        _write_adapter(recipe, adaptation.adapter, base, folder / "adapter")
        if template:
            set_chat_template(folder / "adapter", template)
    config = adaptation.model.config
    live = probe_logits(adaptation.model.cpu().float(), config)
    if not live.isfinite().all():
        raise TrainingError(f"the trained model's logits are not numbers; {DIVERGED}")
    adaptation.plain.config = read_config(base)  # less what training set in it: no cache, other special tokens
    write_model(adaptation.exports[recipe.form](), base, folder / "model")
    if template:
        set_chat_template(folder / "model", template)
    if recipe.instructions and (end := end_of_turn(tokenizer)) is not None:
        stop_at(folder / "model", end)
    return verify_model(folder / "model", live, torch.float32, MERGE_TOLERANCE)


def _write_adapter(recipe: Recipe, adapter: PeftModel, base: Path, folder: Path) -> None:
    """Save an adapter, its base's tokenizer and a card; the base by a name that says nothing of this machine."""
    given = recipe.base if base == find_model(recipe.base) else str(base)
    config = adapter.peft_config["default"]
    config.base_model_name_or_path = public_name(given)
    adapter.save_pretrained(folder, save_embedding_layers=False)
    copy_tokenizer(base, folder)
    is_lora = config.peft_type == "LORA"
    card = adapter_card(public_name(given), on_hub(given), recipe.method.name, recipe.languages.learn, is_lora)
    write_text(folder / "README.md", card)
