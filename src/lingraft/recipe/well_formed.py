"""Validate a recipe section by section, so that one mistake does not hide the other problems."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from lingraft.plain_data import unusable_values
from lingraft.recipe.problems import describe, shown
from lingraft.recipe.schema import ALONE, Recipe

Broken = frozenset[tuple[str, ...]]
"""Sections that are not well-formed: `(key,)`, or `("stages", name, key)`."""


def keys_of(broken: Broken, stage: str | None = None) -> set[str]:
    """Return the keys of broken sections: all, or those that concern one stage."""
    return {place[-1] for place in broken if len(place) == 1 or stage is None or place[1] == stage}


PLACEHOLDERS: dict[str, Callable[[], Any]] = {
    "base": lambda: "broken",
    "languages": lambda: {"learn": ["eng_Latn"]},
    "method": lambda: {"name": "full"},
}
"""What stands for a required section that is broken; nothing that depends on it is checked."""


def well_formed(values: dict[str, Any]) -> tuple[Recipe | None, Broken, list[str]]:
    """Return the recipe without its broken sections, the places of these sections, and their problems.

    There is no recipe where what is wrong is its whole, or a whole stage.
    """
    unusable = list(unusable_values(values))
    problems = [f"{shown(place)}: {problem}" for place, problem in unusable]
    broken = frozenset(_section(place) for place, _ in unusable)
    while True:
        if any(section in ((), ("stages",)) or (section[0] == "stages" and len(section) < 3) for section in broken):
            return None, broken, problems
        try:
            return Recipe.model_validate(_without(values, broken)), broken, problems
        except ValidationError as error:
            errors: list[dict[str, Any]] = [{**one, "loc": _as_written(one["loc"])} for one in error.errors()]
        problems += [describe(problem) for problem in errors]
        if (more := frozenset(_section(problem["loc"]) for problem in errors)) <= broken:
            return None, broken, problems
        broken |= more


def _as_written(place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Return the place of a problem as written; in the short form, keys of the stage are keys of the recipe."""
    return place[2:] if place[:2] == ("stages", ALONE) else place


def _section(place: tuple[str | int, ...]) -> tuple[str, ...]:
    names = tuple(map(str, place))
    return names[:3] if names[:1] == ("stages",) else names[:1]


def _without(values: dict[str, Any], broken: Broken) -> dict[str, Any]:
    rest = deepcopy(values)
    for *above, key in broken:
        section = rest
        for name in above:
            section = section[name]
        section.pop(key, None)
        if key in PLACEHOLDERS:
            section[key] = PLACEHOLDERS[key]()
    return rest
