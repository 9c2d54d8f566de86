"""Training on the Hugging Face Trainer, with the loss of each language in the logs.

The Trainer does the loop, the optimizer, mixed precision, several GPUs and checkpoints. Added
here is what it cannot know: which language a token is of, and which checkpoint was finished.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from lingraft.artefacts import write_json
from lingraft.errors import TrainingError
from lingraft.token_loss import IGNORED, returning_token_losses
from lingraft.training.progress import ProgressLog

if TYPE_CHECKING:
    from datasets import Dataset

    from lingraft.methods import Adaptation

logger = logging.getLogger(__name__)

DIVERGED = "training diverged; lower training.learning_rate (in a new --out), or check the corpus and the precision"

_FINISHED = "finished.json"


@dataclass(frozen=True)
class TrainingOutcome:
    """What training did: the Trainer's log, optimizer steps, and seconds of this process."""

    log: list[dict[str, Any]]
    num_steps: int
    seconds: float


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
