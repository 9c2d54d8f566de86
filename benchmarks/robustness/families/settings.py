"""Settings under `training:`, by the names and types of transformers' TrainingArguments.

Most are only planned. Some train for a step: what a plan accepts must not fail halfway.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from robustness.mutate import NUMBERS, VALUES, as_json
from robustness.world import TRAINING

WORDS = ["no", "steps", "epoch", "linear", "cosine", "constant", "reduce_lr_on_plateau", "adamw_torch", "adafactor"]
WORDS += ["sgd", "adamw_bnb_8bit", "galore_adamw", "lomo", "inductor", "tensorboard", "all", "debug", "auto", "last"]
RUNS = 0.05
"""The share that trains."""


def settings(draw: random.Random, folder: Path) -> list[str]:
    names = [field.name for field in dataclasses.fields(TrainingArguments)]
    chosen = [draw.choice([*names, *TRAINING]) for _ in range(draw.choice((1, 1, 2)))]
    overrides = [f"training.{name}={as_json(_value(draw, name))}"[:100_000] for name in chosen]
    command = ["run", draw.choice(("plain.yaml", "plain.yaml", "staged.yaml", "instruct.yaml")), *overrides]
    compiles = any(name.startswith("torch_compile") for name in chosen)  # in other processes, which nothing confines
    if draw.random() < RUNS and not compiles:  # one step of the plain recipe, whatever else it asks for
        return ["run", "plain.yaml", *overrides, "training.max_steps=1", "--out", "out"]
    return [*command, "--out", "out", "--dry-run"]


def _value(draw: random.Random, name: str) -> Any:
    """Of the type that the default has, more often than not."""
    default = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}.get(name)
    if isinstance(default, bool) and draw.random() < 0.8:
        return not default
    if isinstance(default, int | float) and draw.random() < 0.8:
        return draw.choice([*NUMBERS, default])
    return draw.choice([*VALUES, *WORDS, *WORDS])
