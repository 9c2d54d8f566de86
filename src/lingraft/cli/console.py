"""Where messages go: standard error, from one process of several."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape

console = Console(stderr=True, emoji=False)


def say_written(path: Path, more: str = "") -> None:
    """Where a result lies."""
    console.print(f"written to {escape(str(path))}{more}", highlight=False, soft_wrap=True)


def is_main_process() -> bool:
    """Of several processes that a launcher started, one speaks."""
    return os.environ.get("RANK", "0") == "0"


def speak(more: bool = False, less: bool = False) -> None:
    """How much is logged: progress and warnings, all that we and libraries say, or warnings alone."""
    ours = logging.DEBUG if more else logging.WARNING if less else logging.INFO
    logging.getLogger("lingraft").setLevel(ours if is_main_process() else logging.ERROR)
    logging.getLogger().setLevel(logging.INFO if more and is_main_process() else logging.WARNING)
