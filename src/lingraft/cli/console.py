"""Messages on standard error, from the main process alone."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape

console = Console(stderr=True, emoji=False)


def say_written(path: Path, more: str = "") -> None:
    """Print where a result was written."""
    console.print(f"written to {escape(str(path))}{more}", highlight=False, soft_wrap=True)


def is_main_process() -> bool:
    """Whether this is the main process under a launcher; only it prints."""
    return os.environ.get("RANK", "0") == "0"


def speak(more: bool = False, less: bool = False) -> None:
    """Set the log level: progress and warnings, with `more` also debug messages and libraries, with `less` warnings."""
    ours = logging.DEBUG if more else logging.WARNING if less else logging.INFO
    logging.getLogger("lingraft").setLevel(ours if is_main_process() else logging.ERROR)
    logging.getLogger().setLevel(logging.INFO if more and is_main_process() else logging.WARNING)
