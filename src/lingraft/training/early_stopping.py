"""Early stopping on the selection split: stop when its loss no longer falls, and restore the best weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainingArguments

from lingraft.disk import new_file, take_back
from lingraft.training.checkpoints import step_of

logger = logging.getLogger(__name__)

SELECTION = "selection"
"""The name under which the selection split is evaluated."""
_LOSS = f"eval_{SELECTION}_loss"


class EarlyStopping(TrainerCallback):
    """Ends training after `patience` evaluations without a loss lower by more than `threshold` nats per token.

    arXiv 2606.00284 §3.1 has a patience of 6, of 500 steps; its authors' configurations a threshold of 0.005.

    Its state comes from the Trainer's log, so that a resumed run continues identically. The trained weights of the
    best evaluation are saved beside the checkpoints.
    """

    def __init__(self, folder: Path, patience: int, trainable: Sequence[str], threshold: float = 0.0) -> None:
        self.folder, self.patience, self.trainable, self.threshold = folder, patience, trainable, threshold

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:  # evaluate the last weights too
            control.should_evaluate = True

    def on_evaluate(self, args: TrainingArguments, state: Any, control: Any, **event: Any) -> None:
        """Called once per language; only the selection split counts."""
        if _LOSS not in event["metrics"]:
            return
        best = _best(_losses(state.log_history))
        if best == state.global_step and state.is_world_process_zero:
            self._save(event["model"], best)
        if self.is_over(state.log_history):
            logger.info("no loss low enough in %d evaluations: training stops, back to step %d", self.patience, best)
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Delete best weights that no remaining checkpoint needs."""
        if state.is_world_process_zero:
            steps = [step_of(path) for path in self.folder.glob("checkpoint-*")]
            needed = {path for step in steps for path in self.kept(state.log_history, step)}
            for path in self.folder.glob("best-[0-9]*.safetensors"):
                if path not in needed:
                    take_back(path)

    def kept(self, log: Sequence[Mapping[str, Any]], step: float = math.inf) -> list[Path]:
        """The file of the best weights up to a step; a checkpoint at that step needs it to resume."""
        losses = {at: loss for at, loss in _losses(log).items() if at <= step}
        return [self._path(_best(losses))] if losses else []

    def is_over(self, log: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the last `patience` evaluations were all without a lower loss."""
        lowest, without = math.inf, 0
        for loss in _losses(log).values():
            without = 0 if loss < lowest - self.threshold else without + 1
            lowest = min(lowest, loss)
        return without >= self.patience

    def restore(self, model: nn.Module, log: Sequence[Mapping[str, Any]]) -> int | None:
        """Restore the best weights; returns their step, or None where nothing was evaluated."""
        from safetensors.torch import load_file

        losses = _losses(log)
        if not losses:
            return None
        best = _best(losses)
        parameters = dict(model.named_parameters())
        for name, weights in load_file(self._path(best)).items():
            parameters[name].data.copy_(weights)
        return best

    def _path(self, step: int) -> Path:
        return self.folder / f"best-{step}.safetensors"

    def _save(self, model: nn.Module, step: int) -> None:
        from safetensors.torch import save_file

        parameters = dict(getattr(model, "module", model).named_parameters())
        weights = {name: parameters[name].detach().cpu().contiguous() for name in self.trainable}
        with new_file(self._path(step)) as new:
            save_file(weights, new)


def _losses(log: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Loss on the selection split by step."""
    return {entry["step"]: entry[_LOSS] for entry in log if _LOSS in entry}


def _best(losses: Mapping[int, float]) -> int:
    """The step of the lowest loss."""
    return min(losses, key=lambda step: losses[step])
