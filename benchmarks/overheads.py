"""What a training step costs with L2-SP and with the local loss, against the same step without; on the testbed's base.

    python benchmarks/overheads.py [FOLDER]     # FOLDER keeps the testbed

Both sides of a pair run in turn, round after round; the ratio is of the seconds within a round.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch
from datasets import Dataset

from lingraft.checkpoints.read import read_model
from lingraft.methods import METHODS
from lingraft.penalties import L2SP
from lingraft.synthetic import cache_folder, trained_base, write_testbed
from lingraft.training.arguments import training_arguments
from lingraft.training.batches import TrainingText
from lingraft.training.trainer import train

STEPS, ROUNDS = 16, 5
RANGE = {"first": 3, "last": 2}


def text() -> TrainingText:
    """Blocks of 128 random tokens, a tenth of them old ones: what they say does not matter to the clock."""
    random = np.random.default_rng(0)
    count = 16 * STEPS
    blocks = {
        "input_ids": random.integers(2, 800, (count, 128)).tolist(),
        "languages": [[int(old)] * 128 for old in random.random(count) < 0.1],
    }
    return TrainingText(Dataset.from_dict(blocks), ["qad_Latn", "qaa_Latn"], ["qad_Latn"], {})


def seconds(base: Path, method: dict, pulled: bool, given: TrainingText) -> float:
    """Of a step."""
    torch.manual_seed(0)
    adaptation = METHODS[method["name"]](**method).apply(read_model(base, torch.float32))
    pulls = [L2SP(**RANGE).prepare(adaptation.model, base)] if pulled else []
    settings = {"per_device_train_batch_size": 16, "max_steps": STEPS, "eval_strategy": "no", "save_strategy": "no"}
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        train(adaptation, given, training_arguments({**settings, "logging_steps": 10}, Path(folder), 0), pulls)
        return (time.perf_counter() - started) / STEPS


def added_memory(base: Path) -> tuple[float, float]:
    """MiB that L2-SP adds: private memory after a step of it, and the size of the base in float32."""
    adaptation = METHODS["full"]().apply(read_model(base, torch.float32))
    weights = sum(p.numel() for p in adaptation.model.parameters())
    for parameter in adaptation.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = psutil.Process(os.getpid()).memory_full_info().uss
    pull = L2SP(**RANGE).prepare(adaptation.model, base)
    for _ in range(3):
        pull.add_gradients(1.0)
    return (psutil.Process(os.getpid()).memory_full_info().uss - before) / 2**20, 4 * weights / 2**20


def main(folder: Path) -> None:
    write_testbed(folder, 0)
    base, given = trained_base(folder, cache_folder(), 0), text()
    gated = {"name": "neutral-residues"}
    pairs: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
        "full, with L2-SP": (
            lambda: seconds(base, {"name": "full"}, True, given),
            lambda: seconds(base, {"name": "full"}, False, given),
        ),
        "layra, with L2-SP": (
            lambda: seconds(base, {"name": "layra", "first": 4, "last": 1}, True, given),
            lambda: seconds(base, {"name": "layra", "first": 4, "last": 1}, False, given),
        ),
        "neutral-residues, with l1": (
            lambda: seconds(base, gated, False, given),
            lambda: seconds(base, {**gated, "loss": "none"}, False, given),
        ),
        "sigmoid gate, with cross-entropy": (
            lambda: seconds(base, {**gated, "gate": "sigmoid", "loss": "ce"}, False, given),
            lambda: seconds(base, {**gated, "gate": "sigmoid", "loss": "none"}, False, given),
        ),
    }
    print("\nseconds a step, medians; ratio within a round: median (smallest to largest)")
    for name, (with_it, without) in pairs.items():
        rounds = [(with_it(), without()) if i % 2 else (without(), with_it())[::-1] for i in range(ROUNDS)]
        ratios = sorted(a / b for a, b in rounds)
        shown = f"{median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        print(
            f"  {name:34} {median(a for a, _ in rounds):.4f}  {median(b for _, b in rounds):.4f}  {shown}", flush=True
        )
    added, copy = added_memory(base)
    print(f"\nmemory that L2-SP adds: {added:.2f} MiB; the base in float32: {copy:.2f} MiB")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as scratch:
            main(Path(scratch))
