"""A sweep: one recipe of many runs, that differ in some keys.

    sweep:
      runs:                                      # each a run; without a name, its values are the name
        - {name: ends, method.first: 10, method.last: 2}
        - {name: first, method.first: 12, method.last: 0}
      grid: {method.rank: [8, 64], seed: [0, 1, 2]}   # each run with each combination
      max_parallel: 2                            # so many runs at once; 1 by default

Keys are paths into the recipe, as on the command line; a value may be a whole section. Runs that differ in `seed` alone
are one line of the report, with their mean and its interval.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lingraft.errors import RecipeError
from lingraft.recipe.overrides import found, override, set_values
from lingraft.recipe.paths import unshared
from lingraft.recipe.yaml import read_yaml

SWEEP, SEED = "sweep", "seed"
_MOST_RUNS = 1000
_LONGEST_NAME = 200
_NO_NAMES = ("sweep.json", "report.html", "runs.csv", "runs.json")


class Sweep(BaseModel):
    """The keys of `sweep:`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    runs: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    """Of each run: path into the recipe -> value; `name` names its folder."""
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    """Path into the recipe -> values: each of `runs` with each combination of them."""
    max_parallel: Annotated[int, Field(ge=1)] = 1
    """Runs at once, each a process of its own."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str
    """Of its folder."""
    values: Mapping[str, Any]
    """Path into the recipe -> value."""
    group: str
    """The name of the first run that differs from this one in the seed alone, without the seed."""


def read_sweep(recipe: Path | str | dict[str, Any]) -> Sweep | None:
    """The sweep of a recipe; None where it is the recipe of one run.

    Raises:
        RecipeError: it is of another form.
    """
    values = recipe if isinstance(recipe, dict) else read_yaml(Path(recipe))
    if values.get(SWEEP) is None:
        return None
    source = "recipe" if isinstance(recipe, dict) else str(recipe)
    try:
        sweep = Sweep.model_validate(values[SWEEP])
    except ValidationError as error:
        problems = [f"{'.'.join([SWEEP, *map(str, problem['loc'])])}: {problem['msg']}" for problem in error.errors()]
        raise RecipeError(source, problems) from None
    if not sweep.runs and not sweep.grid:
        raise RecipeError(source, [f"{SWEEP}: there is neither 'runs' nor 'grid'; give what differs"])
    return sweep


def points_of(sweep: Sweep, source: str) -> list[Point]:
    """All runs of a sweep, in order.

    Raises:
        RecipeError: two are the same, a key is given twice, or there are too many.
    """
    grid = [[(path, value) for value in values] for path, values in sweep.grid.items()]
    points: dict[str, Point] = {}
    groups: dict[str, str] = {}
    for run in sweep.runs or [{}]:
        own = {path: value for path, value in run.items() if path != "name"}
        if twice := [path for path in own if path in sweep.grid]:
            raise RecipeError(source, [f"{SWEEP}.grid.{twice[0]}: stands in 'runs' too; give it in one place"])
        for combination in product(*grid):
            values = {**own, **dict(combination)}
            words = {"": run["name"], **dict(combination)} if "name" in run else values
            name, without_seed = _name(words), _name({path: of for path, of in words.items() if path != SEED})
            _check_paths(list(values), source)
            but_seed = {path: of for path, of in values.items() if path != SEED}
            of_group = json.dumps(but_seed, sort_keys=True, default=str)
            if name in points:
                raise RecipeError(source, [f"{SWEEP}: two runs are '{name}'; give runs that differ a 'name'"])
            if len(name) > _LONGEST_NAME or name in _NO_NAMES:
                raise RecipeError(source, [f"{SWEEP}: '{name[:60]}' cannot be the name of a folder; give it a 'name'"])
            label = groups.setdefault(of_group, name if without_seed in groups.values() else without_seed)
            points[name] = Point(name, values, label)
            if len(points) > _MOST_RUNS:
                raise RecipeError(source, [f"{SWEEP}: more than {_MOST_RUNS} runs; give fewer values"])
    return list(points.values())


def _check_paths(paths: Sequence[str], source: str) -> None:
    """Refuse two paths of which one lies below the other: which is set first would decide."""
    for one in paths:
        for other in paths:
            if other.startswith(f"{one}."):
                raise RecipeError(source, [f"{SWEEP}: '{other}' lies below '{one}'; give both in one"])


def check_overrides(recipe: dict[str, Any], points: Sequence[Point], overrides: Sequence[str]) -> None:
    """Refuse an override that undoes what the runs differ in.

    Raises:
        RecipeError: names the override's key, or all, and that of the sweep.
    """
    for point in points:
        values = unshared({key: of for key, of in recipe.items() if key != SWEEP})
        set_values(values, point.values)
        swept = {path: unshared(found(values, path)) for path in point.values}
        override(values, list(overrides))
        if undone := [path for path, value in swept.items() if found(values, path) != value]:
            problem = f"{' '.join(overrides)} would undo what the runs differ in, '{undone[0]}'; change it in the sweep"
            raise RecipeError("command line", [problem])


def _name(values: Mapping[str, Any]) -> str:
    """A name for a folder: `rank-8_seed-0`; the last words of the paths, and the values."""
    parts = [f"{path.rpartition('.')[2]}-{_word(value)}" if path else _word(value) for path, value in values.items()]
    return "_".join(parts) or "all"


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return "-".join(_word(inner) if key == "name" else f"{key}-{_word(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "-".join(map(_word, value))
    return re.sub(r"[^\w.+-]+", "-", "none" if value is None else str(value)).strip(".") or "empty"
