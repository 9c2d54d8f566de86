"""Model folders that are damaged at one place, by seed: what a broken download, an editor or an attacker leaves."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

JSON_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "adapter_config.json",
    "lingraft.json",
)
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**12, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "0", "\0", "é", "\ud800", "../x", "none", "float32", "a" * 5000),
    *([], {}, [None], {"x": 1}, [[[[]]]], {"": {"": {}}}, ["x"] * 3, [0], [-1]),
)
DEEP = "[" * 3000 + "]" * 3000


def mutate(folder: Path, draw: random.Random) -> str:
    """Damage one file of a model or an adapter, in place; returns what was done, for the message."""
    files = sorted(path.name for path in folder.iterdir() if path.name in JSON_FILES)
    files += sorted(path.name for path in folder.glob("*.safetensors"))
    path = folder / draw.choice(files)
    held = path.read_bytes()
    if path.suffix == ".safetensors":
        end = 8 + int.from_bytes(held[:8], "little")
        done, header = _mutated(held[8:end], draw)
        path.write_bytes(len(header).to_bytes(8, "little") + header + held[end:])
    else:
        done, changed = _mutated(held, draw)
        path.write_bytes(changed)
    return f"{path.name}: {done}"


def _mutated(held: bytes, draw: random.Random) -> tuple[str, bytes]:
    """A value or a key of the JSON is another in three of four, the bytes are in the others."""
    if draw.random() < 0.75:
        return draw.choice((_other_value, _other_value, _other_value, _no_key, _other_key))(held, draw)
    return draw.choice((_cut, _other_byte, _twice, _too_deep, _nothing))(held, draw)


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a value, but of long lists and objects the first twelve only."""
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [place, *(deep for key, of in inner[:40] for deep in _places(of, (*place, key)))]


def _changed(held: bytes, draw: random.Random, change: Callable[[Any, Any], object]) -> tuple[str, bytes]:
    """Change what holds a place of the JSON; the outermost places, which are few, are drawn as often as all others."""
    value = json.loads(held)
    places = _places(value)[1:]
    outer = [place for place in places if len(place) == 1]
    place = draw.choice(outer if outer and draw.random() < 0.5 else places or [("x",)])
    of = value
    for key in place[:-1]:
        of = of[key]
    change(of, place[-1])
    return ".".join(map(str, place)), json.dumps(value).encode()


def _other_value(held: bytes, draw: random.Random) -> tuple[str, bytes]:
    wrong = draw.choice(WRONG)
    place, changed = _changed(held, draw, lambda of, key: of.__setitem__(key, wrong))
    return f"{place} is {wrong!r}"[:120], changed


def _no_key(held: bytes, draw: random.Random) -> tuple[str, bytes]:
    place, changed = _changed(held, draw, lambda of, key: of.__delitem__(key))
    return f"{place} is missing", changed


def _other_key(held: bytes, draw: random.Random) -> tuple[str, bytes]:
    def rename(of: Any, key: Any) -> None:
        if isinstance(of, dict):
            of[f"{key}x"] = of.pop(key)

    place, changed = _changed(held, draw, rename)
    return f"{place} has another name", changed


def _cut(held: bytes, draw: random.Random) -> tuple[str, bytes]:
    end = draw.randrange(len(held))
    return f"cut at {end}", held[:end]


def _other_byte(held: bytes, draw: random.Random) -> tuple[str, bytes]:
    at = draw.randrange(len(held))
    return f"another byte at {at}", held[:at] + bytes([draw.randrange(256)]) + held[at + 1 :]


def _twice(held: bytes, draw: random.Random) -> tuple[str, bytes]:
    return "twice", held + held


def _too_deep(held: bytes, draw: random.Random) -> tuple[str, bytes]:
    value = json.loads(held)
    key = draw.choice([*value, "x"]) if isinstance(value, dict) else "x"
    return f"{key} is too deep", json.dumps({**value, key: "HERE"}).replace('"HERE"', DEEP).encode()


def _nothing(held: bytes, draw: random.Random) -> tuple[str, bytes]:
    return "nothing of it", draw.choice((b"", b"null", b"[]", b"{}", b"\xff\xfe", b"3"))
