"""Find values that YAML or JSON can hold but later steps cannot: in one walk, before any library reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Levels of nesting; libraries recurse once per level, and Python allows about a thousand calls."""
MAX_VALUES = 100_000
"""Values in a recipe, aliases expanded."""
_MAX_INTEGER = 2**63 - 1

Refused = dict[re.Pattern[str], str]
REFUSED: Refused = {re.compile("[\ud800-\udfff]"): "holds a lone surrogate, which is no character"}
REFUSED_IN_NAMES: Refused = {re.compile("\0"): "holds a null character", **REFUSED}
"""Pattern that text may not contain -> the message."""

Place = tuple[str | int, ...]
"""Keys and indices from the root."""


def unbounded(data: Any, max_values: int | None = None) -> str | None:
    """The problem of data that is nested too deeply (or in a cycle) or too large; `None` where it is bounded."""
    for count, (place, _) in enumerate(_walk(data), 1):
        if len(place) > MAX_DEPTH:
            return f"values are nested deeper than {MAX_DEPTH} levels"
        if max_values is not None and count > max_values:
            return f"there are more than {max_values:,} values (one behind an alias counts wherever it is used)"
    return None


def unusable_values(data: Any, names_files: bool = True) -> Iterator[tuple[Place, str]]:
    """Places of unusable values in bounded data, with the problem.

    Unusable are lone surrogates (not in UTF-8), integers of more than 64 bits, and, where text may name files, null
    characters (not in paths).
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
    """All values with their places, from the root in order; iterative, without recursion."""
    left: list[tuple[Place, Any]] = [((), data)]
    while left:
        place, value = left.pop()
        yield place, value
        if isinstance(value, dict | list):
            inside = list(value.items() if isinstance(value, dict) else enumerate(value))
            left += [((*place, key), item) for key, item in reversed(inside)]


def _problem(value: Any, refused: Refused) -> str | None:
    if isinstance(value, str):
        return (problem := _problem_of_text(value, refused)) and f"{problem} (given: {ascii(value)[:60]})"
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        return "should be a number of at most 64 bits"
    return None


def _problem_of_text(text: str, refused: Refused) -> str | None:
    return next((problem for pattern, problem in refused.items() if pattern.search(text)), None)
