"""Read a recipe, report all that is wrong with it at once, and fill in what it leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lingraft.errors import RecipeError, nearest
from lingraft.methods import METHODS
from lingraft.penalties import PENALTIES
from lingraft.recipe.after import STEPS
from lingraft.recipe.checks import check
from lingraft.recipe.schema import Recipe, Vocabulary
from lingraft.recipe.text import CorpusEntry, Evaluation, Instructions, Languages, Validation
from lingraft.recipe.training import EarlyStopping, Penalties, Replay, Training
from lingraft.recipe.yaml import override, read_yaml

SECTIONS: dict[str, type[BaseModel]] = {
    "languages": Languages,
    "vocabulary": Vocabulary,
    "corpus": CorpusEntry,
    "instructions": Instructions,
    "validation": Validation,
    "penalties": Penalties,
    "replay": Replay,
    "early_stopping": EarlyStopping,
    "evaluation": Evaluation,
}


def load_recipe(recipe: Path | str | dict[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """The resolved recipe of a YAML file (or of a mapping), with `key.path=value` overrides.

    Relative paths are relative to the current folder.

    Raises:
        RecipeError: all problems of its form; or, where the form is right, all that it asks for
            and cannot have. Nothing is written.
    """
    source = "recipe" if isinstance(recipe, dict) else str(recipe)
    values = deepcopy(recipe) if isinstance(recipe, dict) else read_yaml(Path(recipe))
    override(values, list(overrides))
    try:
        parsed = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(source, [_describe(dict(problem)) for problem in error.errors()]) from None
    return check(parsed, source)


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe as YAML text that `load_recipe` reads back."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    if recipe.stages:  # each of which says these for itself
        values = {key: value for key, value in values.items() if key not in Training.model_fields or key == "after"}
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return text


def _describe(problem: dict[str, Any]) -> str:
    """`path.to.key: what is wrong (given: value)` of one of pydantic's errors."""
    location, section = _place([str(part) for part in problem["loc"]])
    path = ".".join(location)
    kind, given = problem["type"], problem["input"]
    inner = location[2:] if location[:1] == ["stages"] else location
    if kind == "extra_forbidden":
        keys = list(section.model_fields)
        return f"{path}: unknown key{nearest(location[-1], keys)}; allowed here: {', '.join(keys)}"
    if kind == "missing":
        return f"{path}: is missing"
    if kind == "union_tag_not_found" and inner[0] == "after":
        keys = list(given) if isinstance(given, dict) else [str(given)]
        return f"{path}: no step of this kind{nearest(' '.join(map(str, keys)), STEPS)}; steps: {', '.join(STEPS)}"
    if kind == "union_tag_not_found":
        return f"{path}.name: is missing; methods: {', '.join(METHODS)}"
    if kind == "union_tag_invalid":
        name = str(problem["ctx"]["tag"])
        return f"{path}.name: there is no method '{name}'{nearest(name, METHODS)}; methods: {', '.join(METHODS)}"
    message: str = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return (f"{path}: " if path else "") + message + ("" if kind == "value_error" else f" (given: {given!r})")


def _place(location: list[str]) -> tuple[list[str], type[BaseModel]]:
    """A location as the recipe's writer sees it, and the section that it lies in.

    pydantic puts the name there by which it told methods, or steps, apart.
    """
    if location[:1] == ["stages"] and len(location) > 2:
        of_stage, section = _within(location[2:], Training)
        return [*location[:2], *of_stage], section
    return _within(location, Recipe)


def _within(location: list[str], section: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """The same within a recipe, or within one of its stages."""
    if len(location) > 1:
        section = SECTIONS.get(location[0], section)
    if location[:1] == ["penalties"] and len(location) > 2:
        section = PENALTIES.get(location[1], section)
    for key, at, forms in (("method", 1, METHODS), ("after", 2, STEPS)):
        if location[:1] == [key] and len(location) > at and location[at] in forms:
            section = forms[location.pop(at)]
            inner = section.model_fields.get(location[at]) if len(location) > at + 1 else None
            if inner is not None and isinstance(inner.annotation, type) and issubclass(inner.annotation, BaseModel):
                section = inner.annotation
    return location, section
