"""Log training progress: losses by language, in nats per token (ln, for the model's own tokens)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from lingraft.evaluation import ABILITIES

logger = logging.getLogger(__name__)


class ProgressLog(TrainerCallback):
    """Logs losses per language and the remaining time; writes every log entry to a file."""

    def __init__(self, path: Path, num_validated: int) -> None:
        self.path = path
        self.num_validated = num_validated
        self.validation: dict[str, float] = {}

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self.started, self.first_step = time.monotonic(), state.global_step
        if state.is_world_process_zero:  # drop entries after the last checkpoint
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(json.dumps(entry) + "\n" for entry in state.log_history))

    def on_log(self, args: TrainingArguments, state: Any, control: Any, **event: Any) -> None:
        if not state.is_world_process_zero:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(state.log_history[-1]) + "\n")
        losses = {n.removeprefix("loss_"): v for n, v in event["logs"].items() if n.startswith("loss")}
        if losses:
            self.log_losses(state, "training loss", losses)
        for name, prefix in ABILITIES.items():
            shares = {key.removeprefix(prefix): v for key, v in event["logs"].items() if key.startswith(prefix)}
            if shares:
                shown = "  ".join(f"{code} {100 * share:.1f} %" for code, share in shares.items())
                logger.info("step %d/%d  %s  %s", state.global_step, state.max_steps, name, shown)

    def on_evaluate(self, args: TrainingArguments, state: Any, control: Any, **event: Any) -> None:
        """Called once per language; logs when all languages are evaluated."""
        for name, value in event["metrics"].items():
            if name.endswith("_loss"):
                self.validation[name.removeprefix("eval_").removesuffix("_loss")] = value
        if len(self.validation) == self.num_validated:
            if state.is_world_process_zero:
                self.log_losses(state, "validation loss", self.validation)
            self.validation = {}

    def log_losses(self, state: Any, kind: str, losses: Mapping[str, float]) -> None:
        shown = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        done = f"step {state.global_step}/{state.max_steps}"
        logger.info("%s  %s, nats per token  %s%s", done, kind, shown, self._time_left(state))

    def _time_left(self, state: Any) -> str:
        done = state.global_step - self.first_step
        if not done or state.global_step >= state.max_steps:
            return ""
        seconds = (time.monotonic() - self.started) / done * (state.max_steps - state.global_step)
        return f"  {seconds / 60:.0f} min left" if seconds >= 90 else f"  {seconds:.0f} s left"
