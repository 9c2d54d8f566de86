"""Horizontal bars of bytes per token, a bar for each tokenizer of a language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lingraft.reporting.figures import INK, LOSS, SOFT, Figure, axis, escaped, layout, note

ROW, ALONE, HEADING, PAUSE, THICK = 20, 26, 28, 6, 13
"""Heights in pixels: row, row of a language with a single bar, heading, space after rows, bar."""
LABEL = 18
"""The longest label of a row; a telephone is narrow."""
VALUE = 56
"""Pixels to the right of the axis, for the number of the longest bar."""


@dataclass(frozen=True)
class Bar:
    """One tokenizer in one language."""

    label: str
    colour: str
    value: float
    marked: bool
    """Whether the tokenizer over-segments the language."""
    hover: str


@dataclass(frozen=True)
class BarGroup:
    """The bars of one language."""

    heading: str
    note: str
    bars: list[Bar]


def bars(groups: Sequence[BarGroup]) -> Figure:
    """Draw groups below each other; where no language has two bars, headings replace the labels of bars."""
    kinds = list(dict.fromkeys((bar.label, bar.colour) for group in groups for bar in group.bars))
    single = len(kinds) == 1
    placed, headings, height = _place(groups, single)
    labels = [(y, heading if single else bar.label) for y, heading, bar in placed]
    left = 18 + 6.6 * max(min(len(text), LABEL) for _, text in labels)
    longest = max(bar.value for *_, bar in placed) or 1.0
    yaxis = axis([height, 0], grid=False) | {"tickfont": {"color": INK}, "tickmode": "array", "ticklabelstandoff": 6}
    look = layout(
        height + 30,
        {"l": left, "r": VALUE, "t": 0, "b": 30},
        xaxis=axis([0, longest]) | {"nticks": 5, "tickangle": 0},
        yaxis=yaxis | {"tickvals": [y for y, _ in labels], "ticktext": [escaped(text, LABEL) for _, text in labels]},
        barmode="overlay",
        annotations=[*(_heading(y, group, left) for y, group in headings), *(_number(y, bar) for y, _, bar in placed)],
    )
    of_kind = {kind: [(y, bar) for y, _, bar in placed if (bar.label, bar.colour) == kind] for kind in kinds}
    return {"data": [_trace(*kind, placed_bars) for kind, placed_bars in of_kind.items()], "layout": look}


def _place(
    groups: Sequence[BarGroup], single: bool
) -> tuple[list[tuple[float, str, Bar]], list[tuple[float, BarGroup]], float]:
    """Vertical centres of bars and headings, and the total height."""
    placed, headings, y = [], [], 0.0
    for group in groups:
        if not single:
            headings.append((y + HEADING / 2, group))
            y += HEADING
        row = ALONE if single else ROW
        placed += [(y + row * (i + 0.5), group.heading, bar) for i, bar in enumerate(group.bars)]
        y += row * len(group.bars) + (0 if single else PAUSE)
    return placed, headings, y + PAUSE


def _heading(y: float, group: BarGroup, left: float) -> dict[str, Any]:
    text = f"<b><span style='color:{INK}'>{escaped(group.heading, 40)}</span></b>  {group.note}"
    return note(text, 0, y, yref="y", xshift=-left - 2)


def _number(y: float, bar: Bar) -> dict[str, Any]:
    """The number at the end of a bar, with ▲ where the language is over-segmented."""
    number = f"{bar.value:.2f}"
    text = f"<b><span style='color:{LOSS}'>{number} ▲</span></b>" if bar.marked else number
    return note(text, bar.value, y, SOFT, xref="x", yref="y", xshift=4)


def _trace(label: str, colour: str, placed_bars: Sequence[tuple[float, Bar]]) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": escaped(label),
        "x": [bar.value for _, bar in placed_bars],
        "y": [y for y, _ in placed_bars],
        "width": [THICK] * len(placed_bars),
        "offset": [-THICK / 2] * len(placed_bars),
        "marker": {"color": colour, "line": {"width": 0}},
        "hovertext": [bar.hover for _, bar in placed_bars],
        "hoverinfo": "text",
        "textposition": "none",
    }
