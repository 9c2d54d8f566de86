"""Valid commands whose arguments are dropped, doubled, misspelt, exchanged, or given other values."""

from __future__ import annotations

import random
from pathlib import Path

from robustness.mutate import NUMBERS, PATHS, STRINGS
from robustness.world import commands

SLOW = ("run", "evaluate")
"""Commands that are taken less often."""


def command_lines(draw: random.Random, folder: Path) -> list[str]:
    known = commands()
    names = [name for name in known if name not in SLOW] * 2 + list(SLOW)
    arguments = list(known[draw.choice(names)])
    for _ in range(draw.choice((1, 1, 2))):
        place = draw.randrange(len(arguments)) if arguments else 0
        draw.choice(CHANGES)(draw, arguments, place)
    return [argument.replace("\0", "").replace("\ud800", "\udcff") for argument in arguments]  # as a shell gives them


def _replace(draw: random.Random, arguments: list[str], place: int) -> None:
    arguments[place : place + 1] = [_value(draw)]


def _replace_part(draw: random.Random, arguments: list[str], place: int) -> None:
    """Of `NAME:CODE=VALUE`, one part."""
    parts = arguments[place].replace("=", ":").split(":") if arguments else [""]
    parts[draw.randrange(len(parts))] = _value(draw)
    arguments[place : place + 1] = [draw.choice("=:,").join(parts)]


def _value(draw: random.Random) -> str:
    return draw.choice([*PATHS, *STRINGS, *(str(number) for number in NUMBERS), "adapter", "run", "run/results.json"])


def _drop(draw: random.Random, arguments: list[str], place: int) -> None:
    del arguments[place : place + 1]


def _double(draw: random.Random, arguments: list[str], place: int) -> None:
    arguments[place:place] = arguments[place : place + draw.randint(1, 2)]


def _misspell(draw: random.Random, arguments: list[str], place: int) -> None:
    arguments[place : place + 1] = [argument[:-1] for argument in arguments[place : place + 1]]


def _insert(draw: random.Random, arguments: list[str], place: int) -> None:
    options = (
        "--force",
        "--adapter",
        "--dtype",
        "float32",
        "--tokenizer",
        "--help",
        "--",
        "-o",
        "--seed=x",
        "--nothing",
    )
    arguments.insert(place, draw.choice(options))


CHANGES = (_replace, _replace, _replace, _replace_part, _replace_part, _drop, _double, _misspell, _insert)
