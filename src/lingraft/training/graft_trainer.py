"""A Trainer with exact resuming, penalties on the distance to the base, and an error where the loss is not finite.

The Hugging Face Trainer does the loop, the optimizer, mixed precision, several GPUs and checkpoints.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState
from transformers.trainer_utils import rotate_checkpoints

from lingraft.errors import TrainingError, first_line
from lingraft.training.checkpoints import mark_finished, newest_checkpoint
from lingraft.training.muon import muon
from lingraft.training.parameter_groups import set_rate_of_embeddings

if TYPE_CHECKING:
    from lingraft.penalties import PenaltyTerm
    from lingraft.training.averaging import Averages
    from lingraft.training.early_stopping import EarlyStopping
    from lingraft.training.graft_arguments import GraftArguments

logger = logging.getLogger(__name__)

DIVERGED = "training diverged; lower training.learning_rate (in a new --out), or check the corpus and the precision"
_ROWS = "rows.safetensors"
"""Beside a checkpoint's adapter."""


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of training: the Trainer's log, optimizer steps, and seconds over all starts."""

    log: list[dict[str, Any]]
    num_steps: int
    seconds: float
    best_step: int | None = None
    """The step whose weights were restored, with early stopping."""


class GraftTrainer(Trainer):
    """Trainer that resumes exactly, adds penalties, and raises where the loss is not finite."""

    args: GraftArguments
    penalties: Sequence[PenaltyTerm] = ()
    stopping: EarlyStopping | None = None
    averages: Averages | None = None
    abilities: Callable[[], Mapping[str, float]] | None = None
    """Measures what is logged beside the validation losses: in-context abilities of the model."""
    without_decay: Collection[str] = ()
    """Parameters that weight decay leaves alone."""
    rows: Mapping[str, int] = MappingProxyType({})
    """Parameters of the base of which rows from a number on train beside an adapter; peft saves the adapter alone."""
    _started = _seconds_before = 0.0

    def run(self) -> TrainingOutcome:
        """Train from the newest whole checkpoint of the output folder, or from the beginning.

        Raises:
            TrainingError: the loss is no longer a number, there was nothing to train on, or compiling failed.
        """
        self._started, folder = time.monotonic(), Path(str(self.args.output_dir))
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        with self.accelerator.main_process_first():  # it removes damaged checkpoints
            was_begun, checkpoint = any(folder.glob("checkpoint-*")), newest_checkpoint(folder)
        if checkpoint:
            logger.info("resuming from %s", checkpoint.folder)
            self.add_callback(_AtBegin(self, checkpoint.progress))
        elif was_begun:
            logger.warning("no checkpoint is whole: training starts anew")
        if self.abilities is not None and not self.args.eval_on_start:
            self.add_callback(_BeforeFirstStep(self.log_abilities))
        with _compiling(self.args):
            self.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
        # Mixed precision leaves autocast in the model's forward; take it off, the model goes on to be merged.
        self.accelerator.unwrap_model(self.model_wrapped, keep_fp32_wrapper=False)
        if self.state.global_step == 0:
            raise TrainingError("training took no step: there is less text than one batch, or num_train_epochs is 0")
        self.accelerator.wait_for_everyone()
        log = [dict(sorted(entry.items())) for entry in self.state.log_history]  # as a resumed run reads it back
        return TrainingOutcome(log, self.state.global_step, self._seconds)

    @property
    def _seconds(self) -> float:
        """Training time up to now, over this process and the processes that it resumes."""
        return self._seconds_before + time.monotonic() - self._started

    def train(self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **named: Any) -> Any:
        """As the Trainer's, but a finished training takes no further step."""
        if isinstance(resume_from_checkpoint, str):
            self.args.eval_on_start = False  # it was evaluated at the first start
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
            is_over = self.stopping is not None and self.stopping.is_over(state.log_history)
            if is_over or 0 < self.args.max_steps <= state.global_step:
                self._load_from_checkpoint(resume_from_checkpoint)
                self.state = state
                state.is_local_process_zero = self.is_local_process_zero()
                state.is_world_process_zero = self.is_world_process_zero()
                self._memory_tracker.start()
                self.model_wrapped.train()
                self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
                num_samples = self.set_initial_training_values(self.args, self.get_train_dataloader())[3]
                return self._finalize_training(None, num_samples, time.time())
        return super().train(resume_from_checkpoint, *arguments, **named)

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        """As the Trainer's; the logged time covers all starts, as the logged loss covers all steps."""
        started = start_time - self._seconds_before
        return super()._finalize_training(trial, num_train_samples, started)  # type: ignore[no-untyped-call]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As the Trainer's, and Muon; embeddings and head at their own rate."""
        if self.optimizer is not None:
            return super().create_optimizer(model)
        assert self.model is not None, "the Trainer has it"
        if self.args.has_muon:
            self.optimizer = muon(self.model, self.args, self.get_decay_parameter_names(self.model))
        optimizer = super().create_optimizer(model)
        if self.args.embedding_learning_rate is not None:
            set_rate_of_embeddings(optimizer, self.model, self.args.embedding_learning_rate)
        return optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """As the Trainer's, without those of `without_decay`."""
        return [name for name in super().get_decay_parameter_names(model) if name not in self.without_decay]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.rows and output_dir is not None:
            model = self.accelerator.unwrap_model(self.model)
            rows = {name: model.get_parameter(name)[first:].detach().cpu() for name, first in self.rows.items()}
            save_file(rows, Path(output_dir) / _ROWS)
        if self.averages and output_dir is not None:
            self.averages.save(Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.rows:
            parameters = dict(self.accelerator.unwrap_model(self.model).named_parameters())
            with torch.no_grad():
                for name, rows in load_file(Path(resume_from_checkpoint) / _ROWS).items():
                    parameters[name][self.rows[name] :] = rows.to(parameters[name].device)
        if self.averages:
            self.averages.load(Path(resume_from_checkpoint))

    def progress(self) -> dict[str, Any]:
        """State that a resumed run needs for its log: sums since the last entry, and over all steps."""
        pending = self.accelerator.reduce(self._tr_loss.detach().clone(), reduction="mean").item()
        if not math.isfinite(pending):
            raise self._diverged(pending)
        return {
            "total_loss": self._total_loss_scalar,
            "pending_loss": pending,
            "last_logged": self._globalstep_last_logged,
            "seconds": self._seconds,
        }

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Restore the state that `progress` gave; the Trainer starts its sums at 0 in each process."""
        self._initial_global_step = 0
        self._total_loss_scalar = float(progress["total_loss"])
        self._tr_loss = torch.tensor(progress["pending_loss"], device=self.args.device)
        self._globalstep_last_logged = int(progress["last_logged"])
        self._seconds_before = float(progress["seconds"])

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **named: Any) -> Tensor:
        """Forward and backward of a micro-batch; after the last one, add the gradients of the penalties."""
        loss = super().training_step(model, inputs, *arguments, **named)
        if self.accelerator.sync_gradients:
            for penalty in self.penalties:
                penalty.add_gradients(self.loss_scale)
        return loss

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """As the Trainer's, with its own random state, so that evaluation does not change training.

        After all validation texts, each of which is an evaluation of its own, the abilities are measured.
        """
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            losses = super().evaluate(*arguments, **named)
            if not arguments and named.get("eval_dataset") is None:
                self.log_abilities()
            return losses

    def log_abilities(self) -> None:
        """Measure the abilities of the model as it is, and log them."""
        if self.abilities is not None:
            with self.accelerator.autocast():
                self.log(dict(self.abilities()))

    @property
    def loss_scale(self) -> float:
        """The factor by which fp16 training scales the loss."""
        scaler = self.accelerator.scaler
        return float(scaler.get_scale()) if scaler is not None else 1.0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As the Trainer's, with the values of the penalties."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise self._diverged(logs["loss"])
            for penalty in self.penalties:
                logs |= penalty.values()
        super().log(logs, start_time)

    def _diverged(self, loss: float) -> TrainingError:
        return TrainingError(f"the training loss at step {self.state.global_step} is {loss}; {DIVERGED}")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save, then mark the checkpoint as finished, and only then let the Trainer remove older ones."""
        progress, limit, folder = self.progress(), self.args.save_total_limit, str(self.args.output_dir)
        self.args.save_total_limit = None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            best = self.stopping.kept(self.state.log_history) if self.stopping else []
            mark_finished(Path(folder) / f"checkpoint-{self.state.global_step}", progress, best)
            rotate_checkpoints(folder, save_total_limit=limit)


class _BeforeFirstStep(TrainerCallback):
    """Calls a function before the first step, unless a checkpoint was loaded."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """As the Trainer calls it."""
        if state.global_step == 0:
            self.act()


class AfterStep(TrainerCallback):
    """Calls a function after each step of the optimizer."""

    def __init__(self, after_step: Callable[[], None]) -> None:
        self.after_step = after_step

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """As the Trainer calls it."""
        self.after_step()


@contextmanager
def _compiling(arguments: GraftArguments) -> Iterator[None]:
    """Name the setting when the model cannot be compiled."""
    if not arguments.torch_compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        raise TrainingError(
            f"training.torch_compile: the model cannot be compiled here ({first_line(error)}); remove it"
        ) from error


class _AtBegin(TrainerCallback):
    """Restores the sums of a resumed training, after the Trainer has set them to 0."""

    def __init__(self, trainer: GraftTrainer, progress: Mapping[str, Any]) -> None:
        self.trainer, self.progress = trainer, progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.restore(self.progress)
