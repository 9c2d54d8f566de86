"""What a diagnosis is: a measurement of a finished run, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lingraft.reporting.figures import Figure, curves


@dataclass(frozen=True)
class Settings:
    """What may be said beside the run; each diagnosis takes what it knows."""

    first: int | None = None
    """Layers of the first group."""
    last: int | None = None
    max_documents: int | None = None
    """Of each language; all by default."""
    pairs: Mapping[str, str] | None = None
    """Two languages with the fields of their sentences -> file."""
    suites: Sequence[str] = ()
    """Suites of tasks, as in `evaluation.task_suites`."""
    datasets: str | None = None
    """A folder with their data sets."""
    limit: int | None = None
    """Questions of each task; all by default."""


class Table(NamedTuple):
    title: str
    head: list[str]
    rows: list[list[str]]


class Drawing(NamedTuple):
    figures: list[tuple[str, Figure]]
    """Title and figure."""
    tables: list[Table]


@dataclass(frozen=True)
class Diagnosis:
    """One of the diagnoses, in a file of its own."""

    name: str
    measure: Callable[[Path, Settings], dict[str, Any]]
    """Folder of a run -> what its JSON file holds."""
    draw: Callable[[dict[str, Any]], Drawing]
    lede: Callable[[dict[str, Any]], str]
    """What is shown, above the figures."""


def groups_sentence(result: Mapping[str, Any]) -> str:
    """Which layers are the groups of a result."""
    first, last, depth = (result[key] for key in ("first", "last", "depth"))
    return f"The first {first} of {depth} layers are the first group, the last {last} the last."


def percent(values: Sequence[float]) -> list[tuple[float, float]]:
    """A curve by layer, of shares."""
    return [(float(layer), 100 * share) for layer, share in enumerate(values)]


def shares_by_layer(shares: Mapping[str, Sequence[float]], height: float = 300) -> Figure:
    """Curves of shares over layers, from 0 to 100 %."""
    drawn = curves({name: percent(of) for name, of in shares.items()}, list(shares), (), "layer", "%", height)
    drawn["layout"]["yaxis"] |= {"type": "linear", "range": [0, 104], "dtick": 20}
    return drawn
