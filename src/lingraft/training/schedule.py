"""Numbers of steps and evaluations, computed from the Trainer's arguments, and the cost of evaluations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import ceil
from typing import Any

VALIDATION_COST = 0.1
"""Evaluated tokens during training, as a share of the trained tokens."""
LEAST_BLOCKS, MOST_BLOCKS = 2, 64
"""Default range of blocks per language in an evaluation; the least is a mean of two."""

SCHEDULE_ARGUMENTS = (
    *("num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("eval_strategy", "eval_steps", "eval_on_start", "logging_steps"),
)
"""The arguments that these numbers depend on."""


def num_processes() -> int:
    """Processes that train, as a launcher such as torchrun says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def sequences_at_once(settings: Mapping[str, Any]) -> int:
    """Rows of a forward pass, over all processes."""
    return int(settings["per_device_train_batch_size"]) * num_processes()


def sequences_per_step(settings: Mapping[str, Any]) -> int:
    """Rows of an optimizer step, over all processes."""
    return sequences_at_once(settings) * int(settings.get("gradient_accumulation_steps", 1))


def num_steps(settings: Mapping[str, Any], num_rows: int) -> int:
    """Optimizer steps of a training on `num_rows` rows."""
    if settings.get("max_steps", -1) > 0:
        return int(settings["max_steps"])
    return ceil(ceil(num_rows / sequences_per_step(settings)) * float(settings.get("num_train_epochs", 1)))


def num_evaluations(settings: Mapping[str, Any], steps: int) -> int:
    """Evaluations during `steps` steps."""
    at_start = int(settings.get("eval_on_start", False))
    strategy = settings.get("eval_strategy", "no")
    if strategy == "no":
        return at_start
    if strategy == "epoch":
        return at_start + ceil(float(settings.get("num_train_epochs", 1)))
    every = settings.get("eval_steps") or settings.get("logging_steps") or 1
    return at_start + int(steps / max(1, ceil(every * steps) if every < 1 else every))


def validation_blocks(settings: Mapping[str, Any], steps: int, num_languages: int) -> int:
    """Blocks of each language in an evaluation, so that all evaluations stay within `VALIDATION_COST`."""
    looks = num_evaluations(settings, steps) * num_languages
    fitting = int(VALIDATION_COST * steps * sequences_per_step(settings) / looks) if looks else MOST_BLOCKS
    return min(max(fitting, LEAST_BLOCKS), MOST_BLOCKS)
