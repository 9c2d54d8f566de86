"""What comes first: a world, what commands made of it, and this process warm."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from robustness.child import fill_caches, warm
from robustness.world import commands, make_world


def prepare(folder: Path) -> Path:
    """Make the world that inputs start from, and import all that commands import."""
    world, trial = folder / "world", folder / "trial"
    _in_a_child(make_world, world)
    shutil.copytree(world, trial)
    warm(commands().values(), trial)
    for name in ("measured.json", "fertility.json"):
        shutil.copy(trial / name, world)
    records = shutil.ignore_patterns("work", "model", "adapter")
    shutil.copytree(trial / "run", world / "run", ignore=records)
    importlib.import_module("typer.rich_utils")  # writes what is wrong with an option
    fill_caches(commands()["run plain --dry-run"], trial)
    shutil.rmtree(trial)
    gc.collect()
    gc.freeze()
    return world


def _in_a_child(make: Callable[[Path], None], folder: Path) -> None:
    """Libraries start threads; this process has none, so that it can be forked."""
    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"{folder} could not be made")
        return
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        make(folder)
        os._exit(0)
    finally:
        os._exit(1)
