"""What YAML and JSON can say and nothing after them can take: found in one walk, before any library meets it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Levels of nesting; libraries call themselves for each, and Python allows about a thousand calls."""
MAX_VALUES = 100_000
"""Values in a recipe, aliases expanded."""
_MAX_INTEGER = 2**63 - 1

Refused = dict[re.Pattern[str], str]
REFUSED: Refused = {re.compile("[\ud800-\udfff]"): "holds a lone surrogate, which is no character"}
REFUSED_IN_NAMES: Refused = {re.compile("\0"): "holds a null character", **REFUSED}
"""What text may not hold, and how to say that it does."""

Place = tuple[str | int, ...]
"""Keys and indices from the top."""


def unbounded(data: Any, max_values: int | None = None) -> str | None:
    """What is too much of nested data: its depth, which has no end where a value holds itself, or its size."""
    for count, (place, _) in enumerate(_walk(data), 1):
        if len(place) > MAX_DEPTH:
            return f"values are nested deeper than {MAX_DEPTH} levels"
        if max_values is not None and count > max_values:
            return f"there are more than {max_values:,} values (one behind an alias counts wherever it is used)"
    return None


def unusable_values(data: Any, names_files: bool = True) -> Iterator[tuple[Place, str]]:
    """Places in bounded data, with what is wrong there.

    Lone surrogates (no UTF-8 has one), whole numbers of more than 64 bits, and null characters where text may name
    files (no path has one).
    """
    refused = REFUSED_IN_NAMES if names_files else REFUSED
    for place, value in _walk(data):
        if isinstance(value, dict):
            for key in value:
                if isinstance(key, str) and (problem := _problem_of_text(key, refused)):
                    yield place, f"the key {ascii(key)[:60]} {problem}"
        elif problem := _problem(value, refused):
            yield place, problem


def _walk(data: Any) -> Iterator[tuple[Place, Any]]:
    """All values with their places, from the top, in their order; no call for each level."""
    left: list[tuple[Place, Any]] = [((), data)]
    while left:
        place, value = left.pop()
        yield place, value
        if isinstance(value, dict | list):
            inside = list(value.items() if isinstance(value, dict) else enumerate(value))
            left += [((*place, key), of) for key, of in reversed(inside)]


def _problem(value: Any, refused: Refused) -> str | None:
    if isinstance(value, str):
        return (problem := _problem_of_text(value, refused)) and f"{problem} (given: {ascii(value)[:60]})"
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        return "should be a number of at most 64 bits"
    return None


def _problem_of_text(text: str, refused: Refused) -> str | None:
    return next((problem for pattern, problem in refused.items() if pattern.search(text)), None)
