"""A table of a paper: its figures, and the runs that reproduce it at each size; `tables/` has a YAML file for each."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lingraft.errors import UserError, nearest
from lingraft.recipe.yaml import read_yaml

Size = Literal["testbed", "small", "paper"]
SIZES: dict[Size, str] = {
    "testbed": "artificial languages and a base of a million parameters, made here, in minutes",
    "small": "SmolLM2-135M-Instruct and Chichewa, from two packages (the extra 'tutorial'), in hours",
    "paper": "a base and text of the paper's size, on GPUs",
}
OLD_TEXT = "old_text"
"""In place of corpus entries: the share of all tokens that is text of the old languages (of the testbed)."""


class Row(BaseModel):
    """A row of a table, and the run that reproduces it: all other keys are paths into the recipe."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    paper: tuple[float | None, float | None]
    """What the paper has: learned, and retained; None where our copy of it has no figure."""
    testbed: dict[str, Any] = {}
    """Keys that are others at this size."""
    small: dict[str, Any] = {}

    def keys(self, size: Size) -> dict[str, Any]:
        """Path into a recipe -> value."""
        own = {"testbed": self.testbed, "small": self.small, "paper": {}}[size]
        return {**(self.model_extra or {}), **own}


class PaperTable(BaseModel):
    """A table of a paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    learned: str
    """What the first figure of a row is."""
    retained: str
    better: Literal["lower", "higher"]
    note: str
    """In what the sizes differ from the paper."""
    sizes: dict[Size, dict[str, Any]]
    """Size -> the keys of a recipe that all rows have; at paper size a whole recipe."""
    rows: list[Row]


@cache
def table_names() -> tuple[str, ...]:
    return tuple(sorted(file.name.removesuffix(".yaml") for file in (files("lingraft.papers") / "tables").iterdir()))


@cache
def read_table(name: str) -> PaperTable:
    """A table by name.

    Raises:
        UserError: there is none.
    """
    if name not in table_names():
        raise UserError(f"reproduce {name}: allowed are {', '.join(table_names())}{nearest(name, table_names())}")
    return PaperTable.model_validate(read_yaml(Path(str(files("lingraft.papers") / "tables" / f"{name}.yaml"))))
