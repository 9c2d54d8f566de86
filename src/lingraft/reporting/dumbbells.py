"""Dumbbell charts: per language, a stem from the base to each run, with its interval and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lingraft.reporting.figures import INK, LOSS, SOFT, Figure, axis, escaped, layout, note, points, stems
from lingraft.reporting.read import Run

ROW, HEADING, PAUSE = 22, 30, 8
"""Heights in pixels: row, heading of a language, space after its rows."""
VALUE, CHANGE = 48, 106
"""Right edges of the two columns of numbers, in pixels from the axis."""
LABEL = 16
"""The longest label of a row; a telephone is narrow."""


@dataclass(frozen=True)
class Row:
    """One run in one language, in units of the axis."""

    run: Run
    start: float
    """Start of the stem: the base; 0 or chance where there is no base."""
    before: float | None
    after: float
    interval: tuple[float, float] | None
    """Interval around `after`, if any."""
    lost: bool
    value: str
    change: str
    hover: str


@dataclass(frozen=True)
class Group:
    """The rows of one language."""

    heading: str
    note: str
    rows: list[Row]
    chance: float | None = None


class _Placed(NamedTuple):
    """A group, and its rows with their vertical centres."""

    group: Group
    top: float
    rows: list[tuple[float, Row]]
    bottom: float


def dumbbells(groups: Sequence[Group], suffix: str, origin: float | None = None, least: float = 0.0) -> Figure:
    """Draw groups below each other.

    `suffix`: unit of the axis; `origin`: a value that the axis includes; `least`: its smallest span.
    """
    bands = _place(groups)
    rows = [pair for band in bands for pair in band.rows]
    one_run = len({row.run.anchor for _, row in rows}) == 1
    names = [(y, "" if one_run else escaped(row.run.label, LABEL)) for y, row in rows]
    left = 24 if one_run else 16 + 6.5 * max(min(len(row.run.label), LABEL) for _, row in rows)
    right = 4 + (CHANGE if any(row.change for _, row in rows) else VALUE)
    ends = [value for _, row in rows for value in (row.start, row.after, *(row.interval or ()))]
    ends += [value for value in (origin, *(group.chance for group in groups)) if value is not None]
    low, high = _widened(min(ends), max(ends), least, origin)
    pad, height = 0.06 * (high - low), bands[-1].bottom + PAUSE
    xaxis = axis([low - pad, high + pad], grid=False, ticksuffix=suffix)
    yaxis = axis([height, 0], grid=False) | {"tickfont": {"color": INK}, "tickmode": "array"}
    look = layout(
        height + 30,
        {"l": left, "r": right, "t": 0, "b": 30},
        xaxis=xaxis | {"nticks": 4, "tickangle": 0, "ticks": "outside", "ticklen": 4, "tickcolor": SOFT},
        yaxis=yaxis | {"tickvals": [y for y, _ in names], "ticktext": [name for _, name in names]},
        shapes=[line for band in bands for line in _uprights(band)],
        annotations=[text for band in bands for text in _texts(band, left)],
    )
    runs = {row.run.anchor: row.run for _, row in rows}
    marks = [_ends(run, [(y, row) for y, row in rows if row.run.anchor == run.anchor]) for run in runs.values()]
    kept, lost = ([(row.start, row.after, y) for y, row in rows if row.lost is lost] for lost in (False, True))
    return {"data": [stems(kept, SOFT, 2), stems(lost, LOSS, 4), *marks], "layout": look}


def _place(groups: Sequence[Group]) -> list[_Placed]:
    bands = []
    y = 0.0
    for group in groups:
        top = y + HEADING
        bottom = top + ROW * len(group.rows)
        bands.append(_Placed(group, top, [(top + ROW * (i + 0.5), row) for i, row in enumerate(group.rows)], bottom))
        y = bottom + PAUSE
    return bands


def _texts(band: _Placed, left: float) -> list[dict[str, Any]]:
    """The heading, and two columns of numbers to the right of the axis."""
    heading = f"<b><span style='color:{INK}'>{escaped(band.group.heading, 40)}</span></b>  {band.group.note}"
    texts = [note(heading, 0, band.top - HEADING / 2, yref="y", xshift=-left - 2)]
    for y, row in band.rows:
        change = f"<b><span style='color:{LOSS}'>{row.change}</span></b>" if row.lost else row.change
        texts.append(note(row.value, 1, y, yref="y", xshift=VALUE, xanchor="right"))
        texts.append(note(change, 1, y, yref="y", xshift=CHANGE, xanchor="right"))
    return texts


def _uprights(band: _Placed) -> list[dict[str, Any]]:
    """A line through the rows for the base, and a dotted one for chance."""
    lines = [(before, "solid") for before in {row.before for _, row in band.rows} if before is not None]
    lines += [] if band.group.chance is None else [(band.group.chance, "dot")]
    ends = {"type": "line", "y0": band.top, "y1": band.bottom, "layer": "below"}
    return [{**ends, "x0": x, "x1": x, "line": {"color": SOFT, "width": 1.5, "dash": dash}} for x, dash in lines]


def _widened(low: float, high: float, least: float, origin: float | None) -> tuple[float, float]:
    """A span of at least `least`, which grows away from `origin`, and from 0."""
    missing = max(least - (high - low), 0.0) or float(high == low)
    return (low - missing, high) if origin is not None and high <= origin else (low, high + missing)


def _ends(run: Run, pairs: Sequence[tuple[float, Row]]) -> dict[str, Any]:
    """The markers of one run, with their intervals."""
    rows = [row for _, row in pairs]
    intervals = [row.interval or (row.after, row.after) for row in rows]
    places = [row.after for row in rows], [y for y, _ in pairs]
    whiskers = {
        "array": [high - row.after for (_, high), row in zip(intervals, rows, strict=True)],
        "arrayminus": [row.after - low for (low, _), row in zip(intervals, rows, strict=True)],
        "color": SOFT,
        "thickness": 1.2,
        "width": 3,
    }
    return points(escaped(run.label), *places, run.style, [row.hover for row in rows]) | {"error_x": whiskers}
