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
from lingraft.recipe.checks import check
from lingraft.recipe.schema import CorpusEntry, Evaluation, Languages, Recipe, Validation
from lingraft.recipe.yaml import override, read_yaml

SECTIONS: dict[str, type[BaseModel]] = {
    "languages": Languages,
    "corpus": CorpusEntry,
    "validation": Validation,
    "evaluation": Evaluation,
    **{f"method.{name}": method for name, method in METHODS.items()},
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
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return text


def _describe(problem: dict[str, Any]) -> str:
    """`path.to.key: what is wrong (given: value)` of one of pydantic's errors."""
    location = [str(part) for part in problem["loc"]]
    section = _section(location)
    if location[0] == "method" and len(location) > 1 and location[1] in METHODS:
        del location[1]  # the name that pydantic puts there to tell the methods apart
    path = ".".join(location)
    kind, given = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        keys = list(section.model_fields)
        return f"{path}: unknown key{nearest(location[-1], keys)}; allowed here: {', '.join(keys)}"
    if kind == "missing":
        return f"{path}: is missing"
    if kind == "union_tag_not_found":
        return f"method.name: is missing; methods: {', '.join(METHODS)}"
    if kind == "union_tag_invalid":
        name = str(problem["ctx"]["tag"])
        return f"method.name: there is no method '{name}'{nearest(name, METHODS)}; methods: {', '.join(METHODS)}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{path}: {message}" + ("" if kind == "value_error" else f" (given: {given!r})")


def _section(location: list[str]) -> type[BaseModel]:
    return SECTIONS.get(".".join(location[:2])) or SECTIONS.get(location[0], Recipe) if len(location) > 1 else Recipe
