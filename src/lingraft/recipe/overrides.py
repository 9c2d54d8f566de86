"""Overrides of a recipe on the command line: `key.path=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from lingraft.errors import RecipeError
from lingraft.recipe.merge_steps import STEPS
from lingraft.recipe.yaml import parse_yaml

_VERBS = STEPS.keys() - {"scale"}
"""Keys that tell a step of `merge:`; `scale` may also be the factor of another."""


def override(recipe: dict[str, Any], assignments: list[str]) -> None:
    """Apply `key.path=value` assignments in place; a list is indexed by number, its end extends it.

    The name of another method, and the verb of another step, drop the settings of what stood there: those of one
    mean nothing to the other. Settings from the command line stay, in whichever order they are given.

    Raises:
        RecipeError: an assignment without `=`, or a path through something that has no keys.
    """
    parsed = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise RecipeError("command line", [f"'{assignment}': overrides are key.path=value"])
        parsed.append((path, parse_yaml(text, f"override {path}")))
    _assign(recipe, parsed)


def set_values(recipe: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set values by `key.path` in place, as `override` does.

    Raises:
        RecipeError: a path through something that has no keys.
    """
    _assign(recipe, list(values.items()))


def _assign(recipe: dict[str, Any], assigned: Sequence[tuple[str, Any]]) -> None:
    parsed = [(path, path.split("."), value) for path, value in assigned]
    for _, keys, value in parsed:
        _drop_settings_of_another(recipe, keys, value)
    for path, keys, value in parsed:
        target: Any = recipe
        for key, following in pairwise(keys):
            target = _child(target, key, [] if following == "0" else {}, path)
        _set(target, keys[-1], value, path)


def _drop_settings_of_another(recipe: dict[str, Any], keys: list[str], value: Any) -> None:
    """Empty a section whose kind an override changes: `method.name`, or the kind of step at `merge.N`."""
    section = _found(recipe, keys[:-1])
    if not isinstance(section, dict):
        return
    names_another = keys[-2:] == ["method", "name"] and section.get("name") not in (None, value)
    is_another_step = keys[-3:-2] == ["merge"] and keys[-1] in _VERBS and keys[-1] not in section
    if names_another or is_another_step:
        section.clear()


def found(recipe: Any, path: str) -> Any:
    """Return the value at a path; None if there is none."""
    return _found(recipe, path.split("."))


def _found(value: Any, keys: list[str]) -> Any:
    """Return the value at a path; None if there is none."""
    for key in keys:
        if isinstance(value, list):
            value = value[int(key)] if _is_number(key) and int(key) < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def _child(target: Any, key: str, empty: Any, path: str) -> Any:
    if isinstance(target, dict):
        if target.get(key) is None:
            target[key] = empty
        return target[key]
    return target[_index(target, key, path)]


def _set(target: Any, key: str, value: Any, path: str) -> None:
    if isinstance(target, dict):
        target[key] = value
        return
    if isinstance(target, list) and key == str(len(target)):
        target.append(value)
        return
    target[_index(target, key, path)] = value


def _index(target: Any, key: str, path: str) -> int:
    if not isinstance(target, list):
        raise RecipeError("command line", [f"{path}: '{key}' stands below a single value, which has no keys"])
    if not _is_number(key) or int(key) >= len(target):
        raise RecipeError("command line", [f"{path}: '{key}' is not an index of a list of {len(target)}"])
    return int(key)


def _is_number(key: str) -> bool:
    return key.isdecimal() and len(key) < 10
