"""Tables of all runs: a row per run, a column group per language, the base on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lingraft.reporting.measured import UNITS, metric_of
from lingraft.reporting.read import Run, by_role


class Cell(NamedTuple):
    """A number as shown, and unrounded for copying."""

    text: str = ""
    value: float | None = None
    look: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a column group per language."""

    codes: list[str]
    """The language of each group."""
    columns: list[str]
    """The columns of each group."""
    rows: list[tuple[Run | str, list[Cell]]]


def bits_table(runs: Sequence[Run]) -> Table:
    """Bits per byte of each language, and the change from the base with its interval."""
    measured = [
        {code: {**entry["bits_per_byte"], "role": entry["role"]} for code, entry in run.languages.items()}
        for run in runs
    ]
    return _table(runs, measured, "bits", scale=1, digits=4)


def task_table(runs: Sequence[Run], name: str) -> Table:
    """Scores of one task, of 100, and chance."""
    entries = [run.tasks.get(name, {}).get("languages", {}) for run in runs]
    measured = [
        {code: {**entry["score"], "role": entry["role"]} for code, entry in languages.items()} for languages in entries
    ]
    unit = UNITS.get(metric_of(runs, name), "% right")
    kept = [i for i, cells_of in enumerate(measured) if cells_of]
    table = _table([runs[i] for i in kept], [measured[i] for i in kept], unit, scale=100, digits=1)
    chances = {code: entry["chance"] for languages in entries for code, entry in languages.items()}
    width = len(table.columns)
    chance = [cell for code in table.codes for cell in (_number(100 * chances[code], 1), *[Cell()] * (width - 1))]
    return Table(table.codes, table.columns, [("chance", chance), *table.rows])


def _table(runs: Sequence[Run], measured: Sequence[dict[str, Any]], unit: str, scale: float, digits: int) -> Table:
    together = by_role({code: entry for languages in reversed(measured) for code, entry in languages.items()})
    against_base = any("before" in entry for languages in measured for entry in languages.values())
    columns = [unit, "change", "95 % interval"] if against_base else [unit]
    if against_base and any("least_shown" in entry for languages in measured for entry in languages.values()):
        columns.append("least shown")
    rows: list[tuple[Run | str, list[Cell]]] = []
    bases = _bases(runs, measured, scale, digits)
    for i, base in enumerate(bases):
        firsts = [base.get(code, Cell()) for code in together]
        row = [cell for first in firsts for cell in (first, *[Cell()] * (len(columns) - 1))]
        rows.append((f"base {i + 1}" if len(bases) > 1 else "base", row))
    for run, languages in zip(runs, measured, strict=True):
        rows.append((run, [cell for code in together for cell in _cells(languages.get(code), columns, scale, digits)]))
    return Table(list(together), columns, rows)


def _bases(runs: Sequence[Run], measured: Sequence[dict[str, Any]], scale: float, digits: int) -> list[dict[str, Cell]]:
    """The numbers of each base by language; runs share a base of one name, unless its numbers differ."""
    bases: dict[str, list[dict[str, Cell]]] = {}
    for run, languages in zip(runs, measured, strict=True):
        numbers = {
            code: _number(scale * entry["before"], digits) for code, entry in languages.items() if "before" in entry
        }
        if numbers:
            of_name = bases.setdefault(run.results.get("base") or str(numbers), [])
            known = [
                base
                for base in of_name
                if all(base.get(code, number).text == number.text for code, number in numbers.items())
            ]
            if known:
                known[0].update(numbers | known[0])
            else:
                of_name.append(numbers)
    return [base for of_name in bases.values() for base in of_name]


def _cells(entry: dict[str, Any] | None, columns: Sequence[str], scale: float, digits: int) -> list[Cell]:
    """A run's cells for one language; `lost` where the whole interval is a loss."""
    if entry is None:
        return [Cell()] * len(columns)
    cells = [_number(scale * entry["after"], digits)]
    if "before" in entry:
        delta, ends = scale * entry["delta"], entry.get("ci95")
        low, high = (scale * end for end in ends) if ends else (-1.0, 1.0)
        lost = low > 0 if scale == 1 else high < 0
        cells.append(Cell(f"{delta:+.{digits}f}", delta, "lost" if lost else ""))
        cells.append(Cell(f"{low:+.{digits}f} to {high:+.{digits}f}", look="soft") if ends else Cell())
        if entry.get("least_shown") is not None:
            least = scale * entry["least_shown"]
            cells.append(Cell(f"{least:.{digits}f}", least, "soft"))
    return [*cells, *[Cell()] * (len(columns) - len(cells))]


def _number(value: float, digits: int) -> Cell:
    return Cell(f"{value:.{digits}f}", value)
