"""Training on the Hugging Face Trainer, with the loss of each language in the logs.

The Trainer does the loop, the optimizer, mixed precision, several GPUs and checkpoints. Added
here is what it cannot know: which language a token is of, and which checkpoint was finished.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from lingraft.artefacts import write_json
from lingraft.errors import TrainingError
from lingraft.token_loss import IGNORED, returning_token_losses

if TYPE_CHECKING:
    from datasets import Dataset

    from lingraft.methods import Adaptation

logger = logging.getLogger(__name__)

OWNED_ARGUMENTS: Mapping[str, str] = {
    "output_dir": "use --out",
    "resume_from_checkpoint": "a run that is started again resumes by itself",
    "ignore_data_skip": "a resumed run sees exactly the data that is left",
    "save_only_model": "a checkpoint without its optimizer cannot be resumed",
    "remove_unused_columns": "the language of each token travels beside the text",
    "label_names": "labels are the tokens themselves",
    "prediction_loss_only": "validation needs the loss alone",
    "seed": "use the recipe's top-level 'seed'",
    "data_seed": "use the recipe's top-level 'seed'",
    "do_train": "a recipe always trains",
    "do_eval": "use eval_strategy",
    "do_predict": "use 'evaluation'",
    "disable_tqdm": "progress is logged line by line",
    "push_to_hub": "upload the finished model folder",
    **dict.fromkeys(
        ("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
        "a model is not chosen on the text that it is measured on",
    ),
    "label_smoothing_factor": "the loss is the plain cross-entropy, as it is measured",
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "deepspeed", "parallelism_config"),
        "a sharded model cannot be merged yet; train on whole replicas, with torchrun",
    ),
    **dict.fromkeys(
        ("hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision"),
        "upload the finished model folder",
    ),
}
"""Names of TrainingArguments that a recipe may not set, and why or what to do instead."""

DEFAULT_ARGUMENTS: Mapping[str, Any] = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "logging_steps": 10,
    "logging_nan_inf_filter": False,
    "eval_strategy": "steps",
    "eval_steps": 0.1,  # below 1: a share of all steps
    "save_strategy": "steps",
    "save_steps": 0.05,
    "save_total_limit": 2,
    "report_to": "none",
    "dataloader_pin_memory": False,
    "ddp_find_unused_parameters": False,
}

DIVERGED = "training diverged; lower training.learning_rate (in a new --out), or check the corpus and the precision"

_FINISHED = "finished.json"


@dataclass(frozen=True)
class TrainingOutcome:
    """What training did: the Trainer's log, optimizer steps, and seconds of this process."""

    log: list[dict[str, Any]]
    num_steps: int
    seconds: float


def training_arguments(settings: Mapping[str, Any], folder: Path, seed: int) -> TrainingArguments:
    """The Trainer's arguments from names that are all its own.

    Raises:
        ValueError: the Trainer does not accept them together.
    """
    bf16 = mixed_precision(settings) and not settings.get("fp16", False)
    merged = {**DEFAULT_ARGUMENTS, "bf16": bf16, **settings}
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        prediction_loss_only=True,
        disable_tqdm=True,
        **merged,
    )
    if arguments.n_gpu > 1:  # several GPUs in one process would be DataParallel, which shares one forward
        logger.warning("%d GPUs are here and one is used; start with torchrun to use all", arguments.n_gpu)
        arguments._n_gpu = 1
    return arguments


def check_arguments(settings: Mapping[str, Any]) -> None:
    """Let the Trainer itself build what it builds from its arguments, around one weight.

    Raises:
        ValueError, TypeError, ImportError, RuntimeError: in the Trainer's or the optimizer's words.
    """
    with TemporaryDirectory() as folder:
        model = nn.Linear(1, 1)
        arguments = training_arguments(settings, Path(folder), seed=0)
        trainer = Trainer(model, arguments, train_dataset=[{}], eval_dataset=[{}])
        trainer.create_optimizer_and_scheduler(num_training_steps=1)


def mixed_precision(settings: Mapping[str, Any]) -> bool:
    """Whether training runs under autocast; then frozen weights keep the type of their file."""
    default = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return bool(settings.get("bf16", default) or settings.get("fp16", False))


def train(
    adaptation: Adaptation,
    blocks: Dataset,
    validation: Mapping[str, Dataset],
    languages: Sequence[str],
    arguments: TrainingArguments,
) -> TrainingOutcome:
    """Train on blocks of tokens; resumes from the newest finished checkpoint of the output folder.

    `validation` maps a language to its blocks; `languages` names the numbers in the blocks.

    Raises:
        TrainingError: the loss is no longer a number.
    """
    started = time.monotonic()
    folder = Path(str(arguments.output_dir))
    trainer = LanguageTrainer(
        languages,
        model=adaptation.model,
        args=arguments,
        train_dataset=blocks.with_format("numpy"),
        eval_dataset={code: dataset.with_format("numpy") for code, dataset in validation.items()},
        data_collator=collate,
        callbacks=[ProgressLog(folder / "log.jsonl", len(validation))],
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    checkpoint = newest_checkpoint(folder)
    if checkpoint:
        logger.info("resuming from %s", checkpoint)
    with returning_token_losses(adaptation.plain):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        # Mixed precision leaves autocast in the model's forward; take it off, the model goes on to be merged.
        trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    if trainer.state.global_step == 0:
        raise TrainingError("training took no step: there is less text than one batch, or num_train_epochs is 0")
    return TrainingOutcome(trainer.state.log_history, trainer.state.global_step, time.monotonic() - started)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    finished = [path.parent for path in folder.glob(f"checkpoint-*/{_FINISHED}")]
    return max(finished, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def collate(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Blocks -> `input_ids`, `labels`, `languages`, each (B, T); short blocks are padded on the right."""
    width = max(len(block["input_ids"]) for block in blocks)

    def stack(field: str, padding: int) -> Tensor:
        rows = np.full((len(blocks), width), padding, dtype=np.int64)
        for row, block in zip(rows, blocks, strict=True):
            row[: len(block[field])] = block[field]
        return torch.from_numpy(rows)

    return {
        "input_ids": stack("input_ids", 0),
        "labels": stack("input_ids", IGNORED),
        "languages": stack("languages", 0),
    }


class LanguageTrainer(Trainer):
    """The Trainer, with the training loss split by the language of the predicted token."""

    def __init__(self, languages: Sequence[str], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.languages = list(languages)
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the tokens of the whole window
        precision = torch.float32 if self.args.device.type == "mps" else torch.float64
        self._sums = torch.zeros(2, len(languages), dtype=precision)  # of losses, of tokens

    def train(self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **named: Any) -> Any:
        """As the Trainer's, which looks whether `max_steps` is reached only after one more step."""
        if isinstance(resume_from_checkpoint, str):
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
            if 0 < self.args.max_steps <= state.global_step:
                self._load_from_checkpoint(resume_from_checkpoint)
                self.state = state
                return None
        return super().train(resume_from_checkpoint, *arguments, **named)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean cross-entropy over the tokens of all micro-batches and processes of a step."""
        outputs = model(input_ids=inputs["input_ids"], labels=inputs["labels"])
        losses = outputs.loss  # (B, T - 1), see token_loss.returning_token_losses
        scored = inputs["labels"][:, 1:] != IGNORED
        if num_items_in_batch is None or not model.training:
            loss = losses.sum() / scored.sum()
        else:
            self._add(losses.detach()[scored], inputs["languages"][:, 1:][scored])
            loss = losses.sum() / num_items_in_batch
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _add(self, losses: Tensor, languages: Tensor) -> None:
        self._sums = self._sums.to(losses.device)
        self._sums[0].index_add_(0, languages, losses.to(self._sums.dtype))
        self._sums[1].index_add_(0, languages, torch.ones_like(losses, dtype=self._sums.dtype))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add `loss_<language>` to what the Trainer logs."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                step = self.state.global_step
                raise TrainingError(f"the training loss at step {step} is {logs['loss']}; {DIVERGED}")
            sums = self.accelerator.reduce(self._sums, reduction="sum").cpu()
            for number, code in enumerate(self.languages):
                if sums[1, number] > 0:
                    logs[f"loss_{code}"] = float(sums[0, number] / sums[1, number])
            self._sums.zero_()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save, then mark the checkpoint as finished; one without the mark does not count."""
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            write_json(folder / _FINISHED, {"step": self.state.global_step})


class ProgressLog(TrainerCallback):
    """Says losses per language and the time that is left; keeps every entry of the log in a file."""

    def __init__(self, path: Path, num_validated: int) -> None:
        self.path = path
        self.num_validated = num_validated
        self.validation: dict[str, float] = {}

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step
        if state.is_world_process_zero:  # what a killed process logged after its last checkpoint is void
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(json.dumps(entry) + "\n" for entry in state.log_history))

    def on_log(self, args: TrainingArguments, state: Any, control: Any, **event: Any) -> None:
        if not state.is_world_process_zero:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(state.log_history[-1]) + "\n")
        losses = {n.removeprefix("loss_"): v for n, v in event["logs"].items() if n.startswith("loss")}
        if losses:
            self._say(state, "training", losses)

    def on_evaluate(self, args: TrainingArguments, state: Any, control: Any, **event: Any) -> None:
        """Called once a language; speaks when all are there."""
        for name, value in event["metrics"].items():
            if name.endswith("_loss"):
                self.validation[name.removeprefix("eval_").removesuffix("_loss")] = value
        if len(self.validation) == self.num_validated:
            if state.is_world_process_zero:
                self._say(state, "validation", self.validation)
            self.validation = {}

    def _say(self, state: Any, kind: str, losses: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        logger.info("step %d/%d  %s  %s%s", state.global_step, state.max_steps, kind, shown, self._time_left(state))

    def _time_left(self, state: Any) -> str:
        done = state.global_step - self.first_step
        if not done or state.global_step >= state.max_steps:
            return ""
        seconds = (time.monotonic() - self.started) / done * (state.max_steps - state.global_step)
        return f"  {seconds / 60:.0f} min left" if seconds >= 90 else f"  {seconds:.0f} s left"
