"""Mutations: of nested values as JSON and YAML hold them, of the bytes of a file, of what stands at a path."""

from __future__ import annotations

import copy
import gzip
import json
import math
import os
import random
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

HUGE, DEEP = "HUGE_INTEGER", "DEEP_NESTING"
"""Stand for what no library writes: an integer of 5,000 digits, 3,000 lists in each other."""
_WRITTEN = {HUGE: "9" * 5000, DEEP: "[" * 3000 + "]" * 3000}

NUMBERS = [0, -1, 1, 3, 2**31, 2**63, -(2**63), HUGE, 0.5, -0.0, 1e30, 1e-320, 1e308, math.nan, math.inf, -math.inf]
STRINGS = [
    "",
    " ",
    "0",
    "no",
    "\0",
    "\ud800",
    "e\u0301",
    "\u200b",
    "\ufeff",
    "[bold]",
    "a\nb",
    "<b>&\"'",
    "x" * 100_000,
]
PATHS = ["..", "/", ".", "~", "missing", "missing/../base", "base/config.json", "swh_Latn.jsonl", "a-link", "a-loop"]
PATHS += ["a-pipe", "empty", "/dev/zero", "*", "[", "x" * 300, "http://localhost/x", "a/b", "a:b=c"]
OTHERS = [None, True, False, [], {}, [[]], [None], {"": 1}, {"a": {"b": {}}}, DEEP, [1, "a"], ["base"] * 1000]
VALUES: list[Any] = [*NUMBERS, *STRINGS, *PATHS, *OTHERS]


def add_traps(folder: Path) -> None:
    """What some of `PATHS` name."""
    (folder / "a-link").symlink_to("base")
    (folder / "a-loop").symlink_to("a-loop")
    (folder / "empty").touch()
    os.mkfifo(folder / "a-pipe")


def mutated(draw: random.Random, value: Any) -> Any:
    """A copy of a nested value with one to three mutations."""
    whole = [copy.deepcopy(value)]
    for _ in range(draw.choice((1, 1, 2, 3))):
        holder, key = draw.choice(list(_places(whole)))
        draw.choice(_AT_A_PLACE)(draw, holder, key)
        if not whole:
            whole = [None]
    return whole[0]


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every dictionary and list within a value, with each of its keys."""
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


def _replace(draw: random.Random, holder: Any, key: Any) -> None:
    holder[key] = copy.deepcopy(draw.choice(VALUES))


def _remove(draw: random.Random, holder: Any, key: Any) -> None:
    del holder[key]


def _wrap(draw: random.Random, holder: Any, key: Any) -> None:
    holder[key] = draw.choice(([holder[key]], {"x": holder[key]}, [holder[key], copy.deepcopy(holder[key])]))


def _scale(draw: random.Random, holder: Any, key: Any) -> None:
    number = isinstance(holder[key], int | float) and not isinstance(holder[key], bool)
    holder[key] = holder[key] * draw.choice((-1, 0.1, 2, 7, 1000)) if number else draw.choice(NUMBERS)


def _move(draw: random.Random, holder: Any, key: Any) -> None:
    other = draw.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


def _rename(draw: random.Random, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[draw.choice((f"{key}s", str(key)[1:], str(key).upper(), "", "x.y", "1"))] = holder.pop(key)


def _add(draw: random.Random, holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[draw.choice(("unknown", "name", "files", "text", "scale"))] = copy.deepcopy(draw.choice(VALUES))
    else:
        holder.append(copy.deepcopy(draw.choice([*VALUES, holder[key]])))


_AT_A_PLACE = (_replace, _replace, _replace, _remove, _wrap, _scale, _move, _rename, _add)


def as_json(value: Any) -> str:
    """JSON of a mutated value, with NaN and what the marks stand for."""
    text = json.dumps(value)
    for mark, written in _WRITTEN.items():
        text = text.replace(f'"{mark}"', written)
    return text


def as_yaml(value: Any) -> str:
    """The same in YAML."""
    text: str = yaml.safe_dump(value, sort_keys=False)
    for mark, written in _WRITTEN.items():
        text = text.replace(mark, written)
    return text


def damaged(draw: random.Random, data: bytes) -> bytes:
    """The bytes of a file with one mutation."""
    return draw.choice(_OF_BYTES)(draw, data)


def _cut(draw: random.Random, data: bytes) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _flip(draw: random.Random, data: bytes) -> bytes:
    flipped = bytearray(data)
    for _ in range(draw.randint(1, 8) if data else 0):
        flipped[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(flipped)


def _insert(draw: random.Random, data: bytes) -> bytes:
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.choice(_INSERTED) + data[place:]


_INSERTED = (
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\n\n\n",
    b"\t",
    b"{",
    b"]",
    b'"',
    b"&a [*a]",
    b"x" * 2**20,
    b"NaN",
    b"\r",
)
_BOMB = b"".join(b"b%d: &b%d [%s]\n" % (i, i, b",".join([b"*b%d" % (i - 1)] * 9)) for i in range(1, 12))


def _as_text(change: Callable[[str], bytes]) -> Callable[[random.Random, bytes], bytes]:
    return lambda draw, data: change(data.decode(errors="replace"))


def _lines(draw: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    place = draw.randrange(len(lines) + 1)
    return b"".join([*lines[:place], draw.choice([*lines, b"[1]\n", b"{}\n", b"null\n", b"# x\n"]), *lines[place:]])


_OF_BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_cut, _flip, _insert, _insert, _lines, _lines),
    lambda draw, data: b"",
    lambda draw, data: b"\xef\xbb\xbf" + data,
    lambda draw, data: data.replace(b"\n", b"\r\n"),
    lambda draw, data: data.replace(b"\n", b" "),
    lambda draw, data: b"b0: &b0 [x]\n" + _BOMB + data,
    lambda draw, data: gzip.compress(data)[: draw.choice((None, -9, 20))],
    lambda draw, data: b"[" * 3000 + data,
    _as_text(lambda text: text.encode("utf-16")),
    _as_text(lambda text: unicodedata.normalize("NFD", text).encode()),
)
