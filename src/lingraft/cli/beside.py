"""Prompts from standard input, and what two models make of one, side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lingraft.errors import UserError


def read_prompts() -> list[str]:
    """The lines of standard input that hold text.

    Raises:
        UserError: a terminal, on which nobody was asked to type, or bytes that are no UTF-8.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("there is no prompt; give a text, or pipe prompts in, a line each")
    try:
        return [line.rstrip("\n") for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8: {error}") from None


def print_beside(answer: Mapping[str, str]) -> None:
    """Print a prompt and what follows: in columns on a terminal, else below each other."""
    console = Console(highlight=False)
    titles = {"before": "base", "after": "adapted" if "before" in answer else "model"}
    texts = {title: answer[when] for when, title in titles.items() if when in answer}
    if not console.is_terminal:
        print(answer["prompt"])  # noqa: T201
        for title, text in texts.items():
            print(f"{title}: {text}")  # noqa: T201
        print()  # noqa: T201
        return
    table = Table(title=Text(answer["prompt"], style="bold"), title_justify="left", expand=True)
    for title in texts:
        table.add_column(title, ratio=1)
    table.add_row(*map(Text, texts.values()))
    console.print(table)
