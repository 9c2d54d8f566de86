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
    found: dict[str, Point] = {}
    groups: dict[str, str] = {}
    for run in sweep.runs or [{}]:
        own = {path: value for path, value in run.items() if path != "name"}
        if twice := [path for path in own if path in sweep.grid]:
            raise RecipeError(source, [f"{SWEEP}.grid.{twice[0]}: stands in 'runs' too; give it in one place"])
        for combination in product(*grid):
            values = {**own, **dict(combination)}
            words = {"": run["name"], **dict(combination)} if "name" in run else values
            name, without_seed = _name(words), _name({path: of for path, of in words.items() if path != SEED})
            of_group = json.dumps(
                {path: of for path, of in values.items() if path != SEED}, sort_keys=True, default=str
            )
            if name in found:
                raise RecipeError(source, [f"{SWEEP}: two runs are '{name}'; give runs that differ a 'name'"])
            if len(name) > _LONGEST_NAME or name in _NO_NAMES:
                raise RecipeError(source, [f"{SWEEP}: '{name[:60]}' cannot be the name of a folder; give it a 'name'"])
            found[name] = Point(name, values, groups.setdefault(of_group, without_seed))
            if len(found) > _MOST_RUNS:
                raise RecipeError(source, [f"{SWEEP}: more than {_MOST_RUNS} runs; give fewer values"])
    return list(found.values())


def check_overrides(points: Sequence[Point], overrides: Sequence[str]) -> None:
    """Refuse what would undo a sweep: an override of a key in which the runs differ.

    Raises:
        RecipeError: names both keys.
    """
    for assignment in overrides:
        path = assignment.partition("=")[0]
        scope = path.rpartition(".")[0] if path.endswith("method.name") else path
        for swept in dict.fromkeys(key for point in points for key in point.values):
            if f"{swept}.".startswith(f"{scope}.") or f"{scope}.".startswith(f"{swept}."):
                problem = f"'{path}' would undo what the runs differ in, '{swept}'; change it in the recipe's sweep"
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
