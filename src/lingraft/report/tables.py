"""Tables of all runs: a row for each, the languages side by side, the base on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lingraft.report.read import Run, by_role, language_name


class Cell(NamedTuple):
    """A number as it is shown, and whole as it is copied."""

    text: str = ""
    value: float | None = None
    look: str = ""


@dataclass(frozen=True)
class Table:
    """Columns come in groups of the same width."""

    headings: list[tuple[str, str]]
    """Name and code of each language."""
    columns: list[str]
    """Of each group."""
    rows: list[tuple[Run | str, list[Cell]]]


def bits_table(runs: Sequence[Run]) -> Table:
    """Bits per byte of each language, and the change from the base with its interval."""
    measured = [
        {code: {**entry["bits_per_byte"], "role": entry["role"]} for code, entry in run.languages.items()}
        for run in runs
    ]
    return _table(runs, measured, "bits", scale=1, digits=4)


def task_table(runs: Sequence[Run], name: str) -> Table:
    """Accuracies of one task in percent, and chance."""
    entries = [run.tasks.get(name, {}).get("languages", {}) for run in runs]
    measured = [{code: {**entry["accuracy"], "role": entry["role"]} for code, entry in of.items()} for of in entries]
    kept = [i for i, of in enumerate(measured) if of]
    table = _table([runs[i] for i in kept], [measured[i] for i in kept], "% right", scale=100, digits=1)
    chances = {code: entry["chance"] for of in entries for code, entry in of.items()}
    width = len(table.columns)
    chance = [cell for _, code in table.headings for cell in (_number(100 * chances[code], 1), *[Cell()] * (width - 1))]
    return Table(table.headings, table.columns, [("chance", chance), *table.rows])


def _table(runs: Sequence[Run], measured: Sequence[dict[str, Any]], unit: str, scale: float, digits: int) -> Table:
    together = by_role({code: of for languages in reversed(measured) for code, of in languages.items()})
    against_base = any("before" in of for languages in measured for of in languages.values())
    columns = [unit, "change", "95 % interval"] if against_base else [unit]
    bases: dict[tuple[str, ...], list[Cell]] = {}
    rows: list[tuple[Run | str, list[Cell]]] = []
    for run, languages in zip(runs, measured, strict=True):
        before = [languages.get(code, {}).get("before") for code in together]
        if any(value is not None for value in before):
            cells = [_number(value if value is None else scale * value, digits) for value in before]
            row = [cell for first in cells for cell in (first, *[Cell()] * (len(columns) - 1))]
            bases.setdefault(tuple(cell.text for cell in cells), row)
        rows.append((run, [cell for code in together for cell in _cells(languages.get(code), columns, scale, digits)]))
    names = ["base"] if len(bases) == 1 else [f"base {i + 1}" for i in range(len(bases))]
    headings = [(language_name(code), code) for code in together]
    return Table(headings, columns, [*zip(names, bases.values(), strict=True), *rows])


def _cells(of: dict[str, Any] | None, columns: Sequence[str], scale: float, digits: int) -> list[Cell]:
    """What a run has for one language; `lost` where the whole interval lies on the wrong side of nothing."""
    if of is None:
        return [Cell()] * len(columns)
    after = _number(scale * of["after"], digits)
    if "before" not in of:
        return [after, *[Cell()] * (len(columns) - 1)]
    low, high = (scale * end for end in of["ci95"])
    lost = low > 0 if scale == 1 else high < 0
    change = Cell(f"{scale * of['delta']:+.{digits}f}", scale * of["delta"], "lost" if lost else "")
    return [after, change, Cell(f"{low:+.{digits}f} to {high:+.{digits}f}", look="soft")]


def _number(value: float | None, digits: int) -> Cell:
    return Cell() if value is None else Cell(f"{value:.{digits}f}", value)
