"""The step that trains a model by a method, on text or on instructions; it resumes from its last checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lingraft.cache import fingerprint, is_cached, read_json, write_json, write_text
from lingraft.checkpoints.beside import copy_tokenizer
from lingraft.checkpoints.cards import adapter_card
from lingraft.checkpoints.chat_template import end_of_turn, set_chat_template, stop_at, tokenizer_for_chat
from lingraft.checkpoints.document_marks import DocumentMarks
from lingraft.checkpoints.export import probe_logits, verify_model, write_model
from lingraft.checkpoints.names import on_hub, public_name
from lingraft.checkpoints.read import read_config, read_model, read_tokenizer
from lingraft.corpus.tokenize import DocumentTokenizer
from lingraft.disk import mark, remove
from lingraft.errors import TrainingError
from lingraft.evaluation.gate_activations import gate_activity
from lingraft.evaluation.suites import watched
from lingraft.evaluation.task_scores import Ability
from lingraft.layer_groups import depth
from lingraft.methods import Adaptation, Export
from lingraft.methods.new_rows import train_new_rows
from lingraft.methods.parameter_counts import Part, by_group, stack
from lingraft.penalties import PenaltyContext
from lingraft.pipeline.blocks import Blocks
from lingraft.pipeline.fit import fit_on_text
from lingraft.pipeline.instructions import InstructionData
from lingraft.pipeline.self_generated import SELF_GENERATED, GeneratedText, generated_share
from lingraft.pipeline.step import step
from lingraft.pipeline.text import TrainingData
from lingraft.pipeline.values import Model, ModelArtefact
from lingraft.pipeline.vocabulary import ExtendedModel
from lingraft.recipe import Recipe, Stage
from lingraft.recipe.text import Languages
from lingraft.training.arguments import mixed_precision, training_arguments
from lingraft.training.averaging import Averages
from lingraft.training.batches import TrainingText
from lingraft.training.graft_trainer import DIVERGED, TrainingOutcome
from lingraft.training.schedule import num_processes
from lingraft.training.trainer import train

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

    from lingraft.penalties import PenaltyTerm
    from lingraft.training.graft_arguments import GraftArguments

logger = logging.getLogger(__name__)

FOLD_TOLERANCE = 1e-3
"""Largest difference of logits between adapters beside a weight and folded into it, in float32."""


FEWEST_THAT_DECIDE = 8
"""Blocks; fewer would stop training by chance."""

_CHECKPOINTS = "training-*/checkpoint-*"


class AdaptedModel(ModelArtefact):
    """`model`, float32 in the form of the export; `adapter` where there is one; `training.json`."""

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    @property
    def record(self) -> dict[str, Any]:
        """What `training.json` holds: steps, seconds, what trained, losses."""
        record: dict[str, Any] = read_json(self.folder / "training.json")
        return record


@dataclass(frozen=True)
class Trainee:
    """A model to train, and everything that determines the result."""

    start: Model
    data: TrainingData
    generated: Sequence[GeneratedText]
    stage: Stage
    languages: Languages
    blocks_to_decide: int | None
    """`validation.blocks` of the recipe."""
    export: Export
    max_length: int
    seed: int
    marks: DocumentMarks
    first_new: int | None
    """The first new token's id, where the vocabulary grew; it follows from `start`."""
    abilities: Sequence[Ability]
    """Measured at each validation; they do not determine the model."""
    start_name: str
    """The hub name or folder that an adapter is of."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the trained model; validation text does not."""
        stage = self.stage
        tokenizer = tokenizer_for_chat(self.start.folder, stage.chat_template) if stage.instructions else None
        return {
            "start": self.start.fingerprint,
            "data": self.data.training.fingerprint,
            "languages": {"learn": self.languages.learn, "retain": self.languages.retained},
            "selection": [self.data.held_out.fingerprint, self.blocks_to_decide] if stage.early_stopping else None,
            "generated": [part.fingerprint for part in self.generated],
            "replay": stage.replay and stage.replay.model_dump(),
            "method": stage.method.model_dump(),
            "chat_template": tokenizer and tokenizer.chat_template,
            "penalties": stage.penalties.record,
            "early_stopping": stage.early_stopping and stage.early_stopping.model_dump(),
            **({"averaging": stage.averaging.model_dump()} if stage.averaging else {}),
            "training": stage.training,
            "export": self.export,
            "max_length": self.max_length,
            "seed": self.seed,
            "document": [self.marks.bos, self.marks.eos],
            **({"first_new": self.first_new} if self.first_new is not None else {}),
            **({"kl": "of new tokens too"} if self.first_new is not None and self.generated else {}),
        }


def training_began(work: Path) -> bool:
    """Whether a folder contains training that would be lost with it."""
    return any(any(work.glob(f"{stage}{suffix}")) for stage in ("", "stage-*/") for suffix in ("adapted", _CHECKPOINTS))


def adapt(
    recipe: Recipe,
    name: str,
    start: Model,
    data: TrainingData,
    generated: Sequence[GeneratedText],
    extended: ExtendedModel | None,
    abilities: Sequence[Ability],
    work: Path,
) -> AdaptedModel:
    """Train a model in a stage, or return the model that was trained before; all processes take part.

    Raises:
        TrainingError: a loss that is not a number, or text that is less than a batch.
    """
    stage = recipe.stages[name]
    is_first = name == next(iter(recipe.stages))
    trainee = Trainee(
        start,
        data,
        generated,
        stage,
        recipe.languages,
        recipe.validation.blocks,
        recipe.form_of(name),
        recipe.length,
        recipe.seed,
        recipe.marks,
        extended.first if extended else None,
        abilities,
        recipe.base if is_first and not recipe.vocabulary else str(start.folder),
    )
    return _adapt(work, trainee)


def checkpoint_folder(work: Path, key: Mapping[str, Any]) -> Path:
    """Where a training has its checkpoints; with another number of processes its steps have another size."""
    return work / f"training-{fingerprint({**key, 'processes': num_processes()})}"


def _adapt(work: Path, trainee: Trainee) -> AdaptedModel:
    path = work / "adapted"
    key = write_adapted.key(trainee, None)
    checkpoints = checkpoint_folder(work, key)
    for other in work.glob(f"training-{'[0-9a-f]' * 16}"):
        if other != checkpoints:
            logger.warning(
                "%s: removed, text, base, settings or the number of processes changed since it was begun", other.name
            )
            remove(other)
    if not is_cached(path, key) and not write_adapted.take(path, key):
        mark(checkpoints)
        write_adapted(path, trainee, _train(trainee, checkpoints))
    remove(checkpoints)
    return AdaptedModel(path)


@dataclass(frozen=True)
class _Outcome:
    """The trained model in memory."""

    adaptation: Adaptation
    training: TrainingOutcome
    parts: Sequence[Part]
    gates: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase


def _train(trainee: Trainee, checkpoints: Path) -> _Outcome:
    stage, start = trainee.stage, trainee.start.folder
    tokenizer = tokenizer_for_chat(start, stage.chat_template) if stage.instructions else read_tokenizer(start)
    arguments = training_arguments(stage.training, checkpoints, trainee.seed)
    torch.manual_seed(trainee.seed)
    model = read_model(start, "auto" if mixed_precision(stage.training) else torch.float32)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    adaptation = stage.method.apply(model)
    if trainee.first_new is not None and not stage.instructions:
        adaptation = train_new_rows(adaptation, trainee.first_new)
    layers = stage.method.layers(depth(adaptation.plain.config))
    parts = stack(sizes, adaptation, layers)
    _log_what_trains(stage.method.name, parts)
    if adaptation.local_loss is not None and not stage.has_old_text(trainee.languages.retained):
        logger.warning("no text of retained languages trains: the local loss cannot tell old text from new")
    autocast = torch.bfloat16 if arguments.bf16 else torch.float16 if arguments.fp16 else None
    documents = DocumentTokenizer(tokenizer, trainee.marks.bos, trainee.marks.eos)
    context = PenaltyContext(
        adaptation, layers, start, documents, trainee.max_length, trainee.seed, arguments.device, autocast
    )
    pulls = [penalty.prepare(context) for penalty in stage.penalties.given.values()]
    if stage.instructions:
        outcome = _learn_instructions(trainee, adaptation, tokenizer, arguments, pulls)
    else:
        stops = stage.early_stopping
        patience, threshold = (stops.patience, stops.threshold) if stops else (None, 0.0)
        text = _training_text(trainee)
        if adaptation.fit is not None:
            fit_on_text(adaptation.fit, text, context)
        averages, measured = _averages(stage, context), _abilities(trainee, context)
        outcome = train(adaptation, text, arguments, pulls, patience, threshold, averages, abilities=measured)
    with context.precision():
        gates = gate_activity(adaptation.plain, _validation(trainee))
    return _Outcome(adaptation, outcome, parts, gates, tokenizer)


def _abilities(trainee: Trainee, context: PenaltyContext) -> Callable[[], Mapping[str, float]] | None:
    if not trainee.abilities:
        return None
    model, documents = context.adaptation.plain, context.tokenizer
    return lambda: watched(trainee.abilities, model, documents, trainee.max_length)


def _averages(stage: Stage, context: PenaltyContext) -> Averages | None:
    if stage.averaging is None:
        return None
    parameters = {name: context.model.get_parameter(name) for name in context.adaptation.trainable}
    if (pull := stage.averaging.pull) is None:
        return Averages(parameters, ema=stage.averaging.ema)
    return Averages(parameters, list(context.trained()), stage.averaging.ema, pull.every, pull.beta)


@step(AdaptedModel, unkeyed=("outcome",))
def write_adapted(folder: Path, trainee: Trainee, outcome: _Outcome | None) -> None:
    """Fold adapters into a plain model, compare its logits with the live model, and write it."""
    assert outcome is not None
    difference = _write_adapted(trainee, outcome.adaptation, outcome.tokenizer, folder)
    training = outcome.training
    write_json(
        folder / "training.json",
        {
            "steps": training.num_steps,
            **({"best_step": training.best_step} if training.best_step is not None else {}),
            "seconds": training.seconds,
            "trainable": list(outcome.adaptation.trainable),
            "stack": [asdict(part) for part in outcome.parts],
            "merge_difference": difference,
            **({"gates": outcome.gates} if outcome.gates else {}),
            "log": training.log,
        },
    )


def _learn_instructions(
    trainee: Trainee,
    adaptation: Adaptation,
    tokenizer: PreTrainedTokenizerBase,
    arguments: GraftArguments,
    pulls: Sequence[PenaltyTerm],
) -> TrainingOutcome:
    from lingraft.training.instruct import instruct

    data, entries = trainee.data.training, trainee.stage.instructions or []
    assert isinstance(data, InstructionData)
    validation = {
        code: data.examples(f"validation-{code}") for code in dict.fromkeys(entry.language for entry in entries)
    }
    return instruct(adaptation, tokenizer, data.examples(), validation, arguments, trainee.max_length, pulls)


def _training_text(trainee: Trainee) -> TrainingText:
    from datasets import concatenate_datasets

    learn, generated = trainee.languages.learn, trainee.generated
    validation, replay = _validation(trainee), trainee.stage.replay
    assert isinstance(trainee.data.training, Blocks)
    return TrainingText(
        blocks=trainee.data.training.table,
        languages=[*trainee.languages.trained, *([SELF_GENERATED] if generated else [])],
        learned=learn,
        validation=validation,
        written=concatenate_datasets([part.blocks for part in generated]) if generated else None,
        first_new=trainee.first_new,
        weights=replay.weights(generated_share(trainee.data, generated)) if replay else (1.0, 1.0),
        selection=(
            concatenate_datasets([_deciding(trainee, code, len(validation[code])) for code in learn])
            if trainee.stage.early_stopping
            else None
        ),
    )


def _validation(trainee: Trainee) -> dict[str, Dataset]:
    return {code: trainee.data.held_out.validation(code) for code in trainee.languages.roles}


def _deciding(trainee: Trainee, code: str, num_validated: int) -> Dataset:
    """Return blocks of the selection split, about as many as for validation: both are read at every evaluation."""
    table = trainee.data.held_out.selection(code)
    most = trainee.blocks_to_decide or max(FEWEST_THAT_DECIDE, num_validated)
    return table.select(range(min(len(table), most)))


def _log_what_trains(method: str, parts: Sequence[Part]) -> None:
    """Log the trained parameters per layer group."""
    trained = {group: part.in_full + part.in_adapters for group, part in by_group(parts).items()}
    shown = ", ".join(f"{group} {count:,}" for group, count in trained.items() if count)
    logger.info("%s trains %s weights: %s", method, f"{sum(trained.values()):,}", shown)


def _write_adapted(trainee: Trainee, adaptation: Adaptation, tokenizer: PreTrainedTokenizerBase, folder: Path) -> float:
    start, stage = trainee.start.folder, trainee.stage
    template = tokenizer.chat_template if stage.instructions else None
    if template == read_tokenizer(start).chat_template:
        template = None
    if adaptation.adapter is not None and not adaptation.rows:  # else it does not hold all that trained
        _write_adapter(trainee, adaptation.adapter, folder / "adapter")
        if template:
            set_chat_template(folder / "adapter", template)
    config = adaptation.model.config
    live = probe_logits(adaptation.model.cpu().float(), config)
    if not live.isfinite().all():
        raise TrainingError(f"the trained model's logits are not numbers; {DIVERGED}")
    adaptation.plain.config = read_config(start)  # less what training set in it: no cache, other special tokens
    write_model(adaptation.exports[trainee.export](), start, folder / "model")
    if template:
        set_chat_template(folder / "model", template)
    if stage.instructions and (end := end_of_turn(tokenizer)) is not None:
        stop_at(folder / "model", end)
    return verify_model(folder / "model", live, torch.float32, FOLD_TOLERANCE)


def _write_adapter(trainee: Trainee, adapter: PeftModel, folder: Path) -> None:
    """Save an adapter, its base's tokenizer and a model card; the base is named without a local path."""
    given = trainee.start_name
    config = adapter.peft_config["default"]
    config.base_model_name_or_path = public_name(given)
    adapter.save_pretrained(folder, save_embedding_layers=False)
    copy_tokenizer(trainee.start.folder, folder)
    is_lora = config.peft_type == "LORA"
    card = adapter_card(public_name(given), on_hub(given), trainee.stage.method.name, trainee.languages.learn, is_lora)
    write_text(folder / "README.md", card)
