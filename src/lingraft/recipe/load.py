"""Read a recipe, report all that is wrong with it at once, and fill in what it leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lingraft.errors import RecipeError
from lingraft.plain_data import MAX_VALUES, unbounded
from lingraft.recipe.automatic import write_out
from lingraft.recipe.overrides import override, set_values
from lingraft.recipe.paths import anchored, unshared
from lingraft.recipe.schema import Recipe
from lingraft.recipe.sweep import SWEEP
from lingraft.recipe.well_formed import well_formed
from lingraft.recipe.yaml import read_yaml


def load_recipe(
    recipe: Path | str | dict[str, Any],
    overrides: Sequence[str] = (),
    runs_here: bool = True,
    point: Mapping[str, Any] | None = None,
) -> Recipe:
    """Load and resolve the recipe of a YAML file (or of a mapping), with `key.path=value` overrides.

    Relative paths in a file start at the folder that it is in; those of overrides, and of a mapping, at the current
    folder. Where it does not run here, this machine need not have the devices that it asks for. `point` are values by
    path of one run of a recipe with a `sweep`, written as they would be in its file.

    Raises:
        RecipeError: all problems of its form, and all that its well-formed parts ask for and cannot have. Nothing is
            written.
    """
    from lingraft.recipe.checks import filled_in, problems_of_fit  # with what they look at: models and text

    source = "recipe" if isinstance(recipe, dict) else str(recipe)
    values = recipe if isinstance(recipe, dict) else read_yaml(Path(recipe))
    _check_bounds(values, source)
    if point is None and values.get(SWEEP) is not None:
        raise RecipeError(source, ["sweep: this is a recipe of several runs; 'lingraft run' takes it whole"])
    values = {key: value for key, value in unshared(values).items() if key != SWEEP}
    set_values(values, point or {})
    values = unshared(values) if isinstance(recipe, dict) else anchored(values, Path(recipe).parent, source)
    override(values, list(overrides))
    _check_bounds(values, source)
    unclear = write_out(values)
    parsed, broken, problems = well_formed(values)
    problems += unclear
    if parsed is not None:
        config, unfit = problems_of_fit(parsed, broken, runs_here)
        problems += unfit
    if parsed is None or problems:
        raise RecipeError(source, problems)
    return filled_in(parsed, config)


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe as YAML text that `load_recipe` reads back."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    if recipe.is_short:
        (stage,) = values.pop("stages").values()
        values = {**values, **{key: of for key, of in stage.items() if key != "merge"}}
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return text


def _check_bounds(values: Any, source: str) -> None:
    """Refuse a recipe that is nested too deeply, or that aliases make too large."""
    if problem := unbounded(values, MAX_VALUES):
        raise RecipeError(source, [problem])
