"""What every training here adds to the Trainer: finished checkpoints, pulls towards the base, a loss that is a number.

The Trainer does the loop, the optimizer, mixed precision, several GPUs and checkpoints.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from lingraft.artefacts import write_json
from lingraft.errors import TrainingError

if TYPE_CHECKING:
    from lingraft.penalties import Pull
    from lingraft.training.early_stopping import EarlyStopping

logger = logging.getLogger(__name__)

DIVERGED = "training diverged; lower training.learning_rate (in a new --out), or check the corpus and the precision"

_FINISHED = "finished.json"


@dataclass(frozen=True)
class TrainingOutcome:
    """What training did: the Trainer's log, optimizer steps, seconds of this process, and whose weights it left."""

    log: list[dict[str, Any]]
    num_steps: int
    seconds: float
    best_step: int | None = None
    """The step that was gone back to, where training stops early."""


class GraftTrainer(Trainer):
    """The Trainer, which resumes exactly, is pulled towards the base, and says when a loss is no number."""

    pulls: Sequence[Pull] = ()
    stopping: EarlyStopping | None = None

    def run(self) -> TrainingOutcome:
        """Train from the newest finished checkpoint of the output folder, or from the beginning.

        Raises:
            TrainingError: the loss is no longer a number, or there was nothing to train on.
        """
        started, folder = time.monotonic(), Path(str(self.args.output_dir))
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        checkpoint = newest_checkpoint(folder)
        if checkpoint:
            logger.info("resuming from %s", checkpoint)
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        # Mixed precision leaves autocast in the model's forward; take it off, the model goes on to be merged.
        self.accelerator.unwrap_model(self.model_wrapped, keep_fp32_wrapper=False)
        if self.state.global_step == 0:
            raise TrainingError("training took no step: there is less text than one batch, or num_train_epochs is 0")
        self.accelerator.wait_for_everyone()
        return TrainingOutcome(self.state.log_history, self.state.global_step, time.monotonic() - started)

    def train(self, resume_from_checkpoint: str | bool | None = None, *arguments: Any, **named: Any) -> Any:
        """As the Trainer's, which looks whether training is over only after one more step."""
        if isinstance(resume_from_checkpoint, str):
            self.args.eval_on_start = False  # that was at the first start
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
            is_over = self.stopping is not None and self.stopping.is_over(state.log_history)
            if is_over or 0 < self.args.max_steps <= state.global_step:
                self._load_from_checkpoint(resume_from_checkpoint)
                self.state = state
                return None
        return super().train(resume_from_checkpoint, *arguments, **named)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **named: Any) -> Tensor:
        """As the Trainer's: forward and backward of a micro-batch; after the last one all gradients are there."""
        loss = super().training_step(model, inputs, *arguments, **named)
        if self.accelerator.sync_gradients:
            for pull in self.pulls:
                pull.add_gradients(self.loss_scale)
        return loss

    @property
    def loss_scale(self) -> float:
        """What fp16 multiplies the loss by."""
        scaler = self.accelerator.scaler
        return float(scaler.get_scale()) if scaler is not None else 1.0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As the Trainer's, with the size of the pulls."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                step = self.state.global_step
                raise TrainingError(f"the training loss at step {step} is {logs['loss']}; {DIVERGED}")
            for pull in self.pulls:
                logs |= pull.values()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save, then mark the checkpoint as finished; one without the mark does not count."""
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            write_json(folder / _FINISHED, {"step": self.state.global_step})


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    finished = [path.parent for path in folder.glob(f"checkpoint-*/{_FINISHED}")]
    return max(finished, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)
