"""Where messages go: standard error, from one process of several."""

from __future__ import annotations

import os

from rich.console import Console

console = Console(stderr=True, emoji=False)


def is_main_process() -> bool:
    """Of several processes that a launcher started, one speaks."""
    return os.environ.get("RANK", "0") == "0"
