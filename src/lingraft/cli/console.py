"""Where messages go: standard error, from one process of several."""

from __future__ import annotations

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
