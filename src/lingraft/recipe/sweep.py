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

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lingraft.errors import RecipeError
from lingraft.recipe.yaml import read_yaml

SWEEP, SEED = "sweep", "seed"
_MOST_RUNS = 1000


class Sweep(BaseModel):
    """The keys of `sweep:`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    runs: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    max_parallel: Annotated[int, Field(ge=1)] = 1


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str
    """Of its folder."""
    values: Mapping[str, Any]
    """Path into the recipe -> value."""
    group: str
    """Its name without the seed: runs of one group differ in nothing else."""


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
    for run in sweep.runs or [{}]:
        own = {path: value for path, value in run.items() if path != "name"}
        if twice := [path for path in own if path in sweep.grid]:
            raise RecipeError(source, [f"{SWEEP}.grid.{twice[0]}: stands in 'runs' too; give it in one place"])
        for combination in product(*grid):
            values = {**own, **dict(combination)}
            named = {"": run["name"]} if "name" in run else own
            name, group = (_name({**named, **dict(combination)}, without) for without in ("", SEED))
            if name in found:
                raise RecipeError(source, [f"{SWEEP}: two runs are '{name}'; give runs that differ a 'name'"])
            found[name] = Point(name, values, group)
            if len(found) > _MOST_RUNS:
                raise RecipeError(source, [f"{SWEEP}: more than {_MOST_RUNS} runs; give fewer values"])
    return list(found.values())


def _name(values: Mapping[str, Any], without: str) -> str:
    """A name for a folder: `rank-8_seed-0`; the last words of the paths, and the values."""
    parts = [
        _word(value) if not path else f"{path.rpartition('.')[2]}-{_word(value)}"
        for path, value in values.items()
        if path != without or not path
    ]
    return "_".join(parts) or "all"


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return "-".join(_word(inner) if key == "name" else f"{key}-{_word(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "-".join(map(_word, value))
    return re.sub(r"[^\w.+-]+", "-", "none" if value is None else str(value)).strip("-.") or "empty"
