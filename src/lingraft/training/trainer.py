"""Training on the Hugging Face Trainer, with the loss of each language in the logs.

The Trainer does the loop, the optimizer, mixed precision, several GPUs and checkpoints. Added
here is what it cannot know: which language a token is of, what pulls back to the base, and which
checkpoint was finished.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from lingraft.artefacts import write_json
from lingraft.errors import TrainingError
from lingraft.nn.local_loss import Tokens
from lingraft.token_loss import IGNORED, returning_token_losses
from lingraft.training.batches import TrainingText, collate, mixed
from lingraft.training.early_stopping import CHOICE, EarlyStopping
from lingraft.training.progress import ProgressLog

if TYPE_CHECKING:
    from lingraft.methods import Adaptation
    from lingraft.penalties import Pull

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


def train(
    adaptation: Adaptation,
    text: TrainingText,
    arguments: TrainingArguments,
    pulls: Sequence[Pull] = (),
    patience: int | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainingOutcome:
    """Train on blocks of tokens; resumes from the newest finished checkpoint of the output folder.

    With `patience` it ends after so many evaluations without a lower loss on `text.choice`, and goes back
    to the weights of the lowest.

    Raises:
        TrainingError: the loss is no longer a number.
    """
    started = time.monotonic()
    folder = Path(str(arguments.output_dir))
    validation = {**text.validation, **({CHOICE: text.choice} if text.choice is not None else {})}
    stopping = EarlyStopping(folder, patience, adaptation.trainable) if patience else None
    trainer = LanguageTrainer(
        text,
        adaptation,
        pulls,
        stopping,
        args=arguments,
        train_dataset=mixed(text),
        eval_dataset={code: dataset.with_format("numpy") for code, dataset in validation.items()},
        data_collator=collate,
        callbacks=[ProgressLog(folder / "log.jsonl", len(validation)), *callbacks],
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
    trainer.accelerator.wait_for_everyone()
    best = stopping.restore(adaptation.model, trainer.state.log_history) if stopping else None
    return TrainingOutcome(trainer.state.log_history, trainer.state.global_step, time.monotonic() - started, best)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    finished = [path.parent for path in folder.glob(f"checkpoint-*/{_FINISHED}")]
    return max(finished, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


class LanguageTrainer(Trainer):
    """The Trainer, with the training loss split by the language of the predicted token, and with what pulls back."""

    def __init__(
        self,
        text: TrainingText,
        adaptation: Adaptation,
        pulls: Sequence[Pull] = (),
        stopping: EarlyStopping | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(model=adaptation.model, **arguments)
        self.stopping = stopping
        if stopping is not None:
            self.add_callback(stopping)
        self.languages = list(text.languages)
        self.local_loss = adaptation.local_loss
        self.pulls = pulls
        self.weights = text.weights
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the tokens of the whole window
        precision = torch.float32 if self.args.device.type == "mps" else torch.float64
        self._sums = torch.zeros(2, len(self.languages), dtype=precision)  # of losses, of tokens
        self._is_new = torch.tensor([code in text.learned for code in self.languages])
        self._window = (0, 0)  # tokens of the original distribution, and all, of an optimizer step

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

    def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
        """As the Trainer's: the micro-batches of a step. Their tokens are counted, over all processes."""
        batches, num_items = super().get_batch_samples(*arguments, **named)
        if self.local_loss is not None:
            counts = torch.zeros(2, dtype=torch.long, device=self.args.device)
            for batch in batches:
                is_original, is_new = self._origin(batch)
                counts += torch.stack([is_original.sum(), (is_original | is_new).sum()]).to(counts.device)
            num_original, num_all = self.accelerator.reduce(counts, reduction="sum").tolist()
            self._window = (num_original, num_all)
        return batches, num_items

    def _origin(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(B, T) each: tokens like those that the base was trained on, and new ones; padding is neither."""
        is_token = inputs["labels"] != IGNORED
        is_new = self._is_new.to(is_token.device)[inputs["languages"].long()]
        return is_token & ~is_new, is_token & is_new

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **named: Any) -> Tensor:
        """As the Trainer's: forward and backward of a micro-batch; after the last one all gradients are there."""
        with self._watched(inputs):
            loss = super().training_step(model, inputs, *arguments, **named)
        if self.accelerator.sync_gradients:
            for pull in self.pulls:
                pull.add_gradients(self._loss_scale)
        return loss

    @contextmanager
    def _watched(self, inputs: dict[str, Any]) -> Iterator[None]:
        """Within the block, the local loss knows the tokens that pass through."""
        if self.local_loss is None:
            yield
            return
        is_original, is_new = (of[..., None].to(self.args.device) for of in self._origin(inputs))
        scale = self._loss_scale * self.accelerator.num_processes  # the mean over processes divides by it
        num_original, num_all = self._window
        tokens = Tokens(
            is_original, is_new, scale / num_original if num_original else 0.0, scale / num_all if num_all else 0.0
        )
        with self.local_loss.on(tokens):
            yield

    @property
    def _loss_scale(self) -> float:
        """What fp16 multiplies the loss by."""
        scaler = self.accelerator.scaler
        return float(scaler.get_scale()) if scaler is not None else 1.0

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean loss over the tokens of all micro-batches and processes of a step: cross-entropy, or a KL."""
        outputs = model(input_ids=inputs["input_ids"], labels=inputs["labels"], taught=inputs.get("taught"))
        if self.local_loss is not None:
            self.local_loss.end_forward()
        losses = outputs.loss  # (B, T - 1), see token_loss.returning_token_losses
        scored = inputs["labels"][:, 1:] != IGNORED
        if num_items_in_batch is None or not model.training:
            loss = losses.sum() / scored.sum()
        else:
            self._add(losses.detach()[scored], inputs["languages"][:, 1:][scored])
            loss = self._weighted(losses, inputs).sum() / num_items_in_batch
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _weighted(self, losses: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """The losses by what their rows count for; those with a teacher come last."""
        of_text, of_taught = self.weights
        num_taught = len(inputs["taught"][0]) if "taught" in inputs else 0
        return torch.cat([losses[: len(losses) - num_taught] * of_text, losses[len(losses) - num_taught :] * of_taught])

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
            if self.local_loss is not None:
                for name, pair in self.local_loss.sums().items():
                    value, count = self.accelerator.reduce(pair, reduction="sum").tolist()
                    logs[f"local_{name}"] = value / count if count else 0.0
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
