"""Training on text, with the loss of each language in the logs.

It adds to the Trainer the language of each token, distillation from a teacher, and auxiliary losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from lingraft.nn.auxiliary_loss import Tokens
from lingraft.nn.chunked_cross_entropy import IGNORED, per_token_loss
from lingraft.training.batches import TrainingText, collate, mixed, origin
from lingraft.training.early_stopping import SELECTION, EarlyStopping
from lingraft.training.graft_trainer import AfterStep, GraftTrainer, TrainingOutcome
from lingraft.training.progress import ProgressLog

if TYPE_CHECKING:
    from lingraft.methods import Adaptation
    from lingraft.penalties import PenaltyTerm
    from lingraft.training.averaging import Averages
    from lingraft.training.graft_arguments import GraftArguments


def train(
    adaptation: Adaptation,
    text: TrainingText,
    arguments: GraftArguments,
    penalties: Sequence[PenaltyTerm] = (),
    patience: int | None = None,
    threshold: float = 0.0,
    averages: Averages | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    abilities: Callable[[], Mapping[str, float]] | None = None,
) -> TrainingOutcome:
    """Train on blocks of tokens; resumes from the newest undamaged checkpoint of the output folder.

    With `averages`, the weights are those that it restores at the end. With `patience`, training stops after that many
    evaluations without a loss on `text.selection` that is lower by more than `threshold`, and restores the weights of
    the lowest loss. `abilities` are measured at each evaluation, and logged.

    Raises:
        TrainingError: the loss is no longer a number.
    """
    folder = Path(str(arguments.output_dir))
    validation = {**text.validation, **({SELECTION: text.selection} if text.selection is not None else {})}
    stopping = EarlyStopping(folder, patience, adaptation.trainable, threshold) if patience else None
    trainer = LanguageTrainer(
        text,
        adaptation,
        penalties,
        stopping,
        args=arguments,
        train_dataset=mixed(text),
        eval_dataset={code: dataset.with_format("numpy") for code, dataset in validation.items()},
        data_collator=collate,
        callbacks=[ProgressLog(folder / "log.jsonl", len(validation)), *callbacks],
    )
    trainer.abilities = abilities
    if averages is not None:
        trainer.averages = averages
        trainer.add_callback(averages)  # after what a method does after a step
    with per_token_loss(adaptation.plain, text.first_new):
        outcome = trainer.run()
    if averages is not None:
        averages.restore()
    return replace(outcome, best_step=stopping.restore(adaptation.model, outcome.log)) if stopping else outcome


class LanguageTrainer(GraftTrainer):
    """The Trainer, with the training loss split by the language of the predicted token."""

    def __init__(
        self,
        text: TrainingText,
        adaptation: Adaptation,
        penalties: Sequence[PenaltyTerm] = (),
        stopping: EarlyStopping | None = None,
        **arguments: Any,
    ) -> None:
        self.without_decay = adaptation.without_decay
        self.rows = adaptation.rows if adaptation.adapter is not None else {}
        super().__init__(model=adaptation.model, **arguments)
        self.stopping = stopping
        if stopping is not None:
            self.add_callback(stopping)
        if adaptation.after_step is not None:
            self.add_callback(AfterStep(adaptation.after_step))
        self.languages = list(text.languages)
        self.local_loss = adaptation.local_loss
        self.penalties = penalties
        self.weights = text.weights
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the tokens of the whole window
        precision = torch.float32 if self.args.device.type == "mps" else torch.float64
        self._sums = torch.zeros(2, len(self.languages), dtype=precision)  # of losses, of tokens
        self._is_new = torch.tensor([code in text.learned for code in self.languages])
        self._window = (0, 0)  # (old-language tokens, all tokens) of an optimizer step

    def get_batch_samples(self, *arguments: Any, **named: Any) -> Any:
        """As the Trainer's: the micro-batches of a step; counts their tokens over all processes."""
        batches, num_items = super().get_batch_samples(*arguments, **named)
        if self.local_loss is not None:
            counts = torch.zeros(2, dtype=torch.long, device=self.args.device)
            for batch in batches:
                is_original, is_new = origin(batch, self._is_new)
                counts += torch.stack([is_original.sum(), (is_original | is_new).sum()]).to(counts.device)
            num_original, num_all = self.accelerator.reduce(counts, reduction="sum").tolist()
            self._window = (num_original, num_all)
        return batches, num_items

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **named: Any) -> Tensor:
        """As the Trainer's; the local loss gets the token masks of the micro-batch."""
        with self._watched(inputs):
            return super().training_step(model, inputs, *arguments, **named)

    @contextmanager
    def _watched(self, inputs: dict[str, Any]) -> Iterator[None]:
        """Give the local loss the token masks of these inputs within the block."""
        if self.local_loss is None:
            yield
            return
        is_original, is_new = (mask[..., None].to(self.args.device) for mask in origin(inputs, self._is_new))
        scale = self.loss_scale * self.accelerator.num_processes  # the mean over processes divides by it
        num_original, num_all = self._window
        tokens = Tokens(
            is_original, is_new, scale / num_original if num_original else 0.0, scale / num_all if num_all else 0.0
        )
        with self.local_loss.on(tokens):
            yield

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Mean loss per token over all micro-batches and processes of a step: cross-entropy, or KL to the teacher."""
        outputs = model(input_ids=inputs["input_ids"], labels=inputs["labels"], taught=inputs.get("taught"))
        if self.local_loss is not None:
            self.local_loss.end_forward()
        losses = outputs.loss  # (B, T - 1), see token_loss.per_token_loss
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
        """The losses by the weight of their rows; rows with a teacher come last."""
        of_text, of_taught = self.weights
        num_taught = len(inputs["taught"][0]) if "taught" in inputs else 0
        return torch.cat([losses[: len(losses) - num_taught] * of_text, losses[len(losses) - num_taught :] * of_taught])

    def _add(self, losses: Tensor, languages: Tensor) -> None:
        self._sums = self._sums.to(losses.device)
        self._sums[0].index_add_(0, languages, losses.to(self._sums.dtype))
        self._sums[1].index_add_(0, languages, torch.ones_like(losses, dtype=self._sums.dtype))

    def progress(self) -> dict[str, Any]:
        """As `GraftTrainer.progress`, with the sums by language and local loss."""
        local = self.local_loss.sums if self.local_loss is not None else {}
        return {
            **super().progress(),
            "languages": self.accelerator.reduce(self._sums, reduction="sum").tolist(),
            "local": {name: self.accelerator.reduce(pair, reduction="sum").tolist() for name, pair in local.items()},
        }

    def restore(self, progress: Mapping[str, Any]) -> None:
        """As `GraftTrainer.restore`; the main process takes the sums of all processes."""
        super().restore(progress)
        if self.accelerator.is_main_process:
            self._sums = torch.tensor(progress["languages"], dtype=self._sums.dtype)
            if self.local_loss is not None:
                device = self.args.device
                self.local_loss.sums = {
                    name: torch.tensor(values, device=device) for name, values in progress["local"].items()
                }

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add `loss_<language>`, and the local losses, to what the Trainer logs."""
        if "loss" in logs:
            sums = self.accelerator.reduce(self._sums, reduction="sum").cpu()
            for number, code in enumerate(self.languages):
                if sums[1, number] > 0:
                    logs[f"loss_{code}"] = float(sums[0, number] / sums[1, number])
            self._sums.zero_()
            if self.local_loss is not None:
                for name, pair in self.local_loss.sums.items():
                    value, count = self.accelerator.reduce(pair, reduction="sum").tolist()
                    logs[f"local_{name}"] = value / count if count else 0.0
                self.local_loss.sums.clear()
        super().log(logs, start_time)
