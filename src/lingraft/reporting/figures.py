"""The figures of the report as plotly specifications, with all names escaped.

plotly interprets some HTML in its texts, so each name is escaped. Hover texts are complete strings,
since hover templates would interpret `%{…}` in a name. INK, SOFT and LINE are the colours of the light
theme; `page.css` maps them to the dark theme.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from lingraft.reporting.read import COLOURS, Run, Style

Figure = dict[str, Any]

LOSS = "#D55E00"
"""The colour of loss; nothing else has it."""
INK, SOFT, LINE = "#1c2126", "#5c6670", "#e3e7eb"
FONT = 'Inter, "Segoe UI", -apple-system, Roboto, "Helvetica Neue", Arial, sans-serif'
LEAST = 10.0
"""Smallest span of an axis of the plane, in percent, so that little forgetting looks little."""
MARKED_POINTS = 12
FAR_APART = 100
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def escaped(text: str, longest: int = 60) -> str:
    """Text escaped for plotly, on one line; a long text loses its middle, since its end tells runs apart."""
    line = " ".join(text.split())
    if len(line) > longest:
        line = f"{line[: longest - longest // 2 - 1]}…{line[-(longest // 2) :]}"
    return html.escape(line, quote=False)


def signed(value: float, digits: int = 1) -> str:
    """`+4.1` or `−4.1`, with a minus sign as wide as the plus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def plane(runs: Sequence[Run]) -> Figure:
    """Forgetting to the right, learning upwards, in percent; the base is the origin.

    `page.js` moves the labels apart for the width of the window.
    """
    base = Style(SOFT, "circle-open", "○")
    places = [(0.0, 0.0), *((100 * run.results["forgetting"], 100 * run.results["learning"]) for run in runs)]
    labels = ["base", *(escaped(run.label, 28) for run in runs)]
    hovers = ["<b>base</b><br>before any training", *(_of_plane(run) for run in runs)]
    styles = [base, *(run.style for run in runs)]
    marks = zip(labels, places, styles, hovers, strict=True)
    data = [points(name, [x], [y], style, [hover]) for name, (x, y), style, hover in marks]
    return {"data": data, "layout": plane_layout(places, list(zip(labels, places, strict=True)))}


def plane_layout(
    places: Sequence[tuple[float, float]], labels: Sequence[tuple[str, tuple[float, float]]]
) -> dict[str, Any]:
    """The layout of a plane that holds all places; `labels` are texts at some of them, escaped."""
    xs, ys = zip(*places, strict=True)
    width, height = max(max(xs) - min(xs), LEAST), max(max(ys) - min(ys), LEAST)
    return layout(
        460,
        {"l": 50, "r": 16, "t": 40, "b": 54},
        xaxis=axis([min(xs) - 0.06 * width, min(xs) + 1.1 * width], zero=True, ticksuffix=" %"),
        yaxis=axis([min(ys) - 0.12 * height, min(ys) + 1.12 * height], zero=True, ticksuffix=" %"),
        annotations=[*directions(), *(label(text, *place) for text, place in labels)],
    )


def directions(above: float = 26) -> list[dict[str, Any]]:
    """Notes on the better directions, `above` pixels above the plane and below it."""
    return [
        note(f"{_bold('↑ learns more')}   fewer bits in learned languages", 0, 1, xshift=-52, yshift=above),
        note(f"{_bold('← forgets less')}   more bits in retained languages", 0, 0, xshift=-52, yshift=-42),
    ]


def curves(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    order: Sequence[str],
    quiet: Sequence[str] = (),
    across: str = "step",
    unit: str = "nats",
    height: float = 300,
) -> Figure:
    """Numbers over steps, or `across` something else, a line for each name.

    `order` gives a name the same line style in several figures; names in `quiet` have no colour.
    """
    traces = []
    for name, line in sorted(lines.items(), key=lambda item: order.index(item[0])):
        text = escaped(name)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(line) <= MARKED_POINTS else "lines",
                "name": escaped(name, 24),
                "x": [x for x, _ in line],
                "y": [y for _, y in line],
                "line": _look(name, order, quiet),
                "marker": {"size": 6},
                "hovertext": [f"<b>{text}</b><br>{across} {x:,}<br>{y:.4g} {unit}".rstrip() for x, y in line],
                "hoverinfo": "text",
                "cliponaxis": False,
            }
        )
    scale = _scale([y for line in lines.values() for _, y in line])
    look = layout(
        height,
        {"l": 54 if scale else 44, "r": 14, "t": 34, "b": 44},
        xaxis=axis() | {"rangemode": "tozero", "title": {"text": across, "standoff": 8, "font": {"size": 12}}},
        yaxis=axis() | {"ticklabelstandoff": 8, **scale},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"},
    )
    return {"data": traces, "layout": look}


def _look(name: str, order: Sequence[str], quiet: Sequence[str]) -> dict[str, Any]:
    """The line style of a name, by its index among the coloured or among the quiet names."""
    number = [other for other in order if (other in quiet) == (name in quiet)].index(name)
    if name in quiet:
        return {"color": SOFT, "dash": DASHES[(number + 1) % len(DASHES)], "width": 1.5}
    turn = number // len(COLOURS)  # the same colours again, each with another dash
    return {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[(number + turn) % len(DASHES)], "width": 2}


def _scale(values: Sequence[float]) -> dict[str, Any]:
    """The scale of an axis: logarithmic where small values would otherwise all look like 0."""
    powers = {"type": "log", "dtick": 1, "tickformat": "~g"}
    return powers if min(values) > 0 and max(values) > FAR_APART * min(values) else {}


def _of_plane(run: Run) -> str:
    learning, forgetting = 100 * run.results["learning"], 100 * run.results["forgetting"]
    return (
        f"<b>{escaped(run.method or run.name)}</b><br>{escaped(run.name)}"
        f"<br>learning {signed(learning)} %<br>forgetting {signed(forgetting)} %"
    )


def points(
    name: str, x: Sequence[float], y: Sequence[float], style: Style, hover: Sequence[str], size: float = 11
) -> dict[str, Any]:
    """Markers, each with its hover text; `name` must be escaped."""
    outline = 2 if style.symbol.endswith("open") else 0
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "marker": {"color": style.colour, "symbol": style.symbol, "size": size, "line": {"width": outline}},
        "hovertext": list(hover),
        "hoverinfo": "text",
        "cliponaxis": False,
    }


def stems(spans: Sequence[tuple[float, float, float]], color: str, width: float) -> dict[str, Any]:
    """Horizontal lines, each from one x to another at a y."""
    xs = [x for start, end, _ in spans for x in (start, end, None)]
    ys = [height for *_, y in spans for height in (y, y, None)]
    line = {"color": color, "width": width}
    return {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": line, "hoverinfo": "skip"}


def _bold(text: str) -> str:
    return f"<b><span style='color:{INK}'>{text}</span></b>"


def label(text: str, x: float, y: float, color: str = INK, size: float = 13) -> dict[str, Any]:
    """A text at a point, placed by `page.js`; `text` must be escaped."""
    font = {"color": color, "size": size}
    arrow = {"showarrow": True, "arrowhead": 0, "arrowwidth": 1, "arrowcolor": SOFT, "standoff": 7, "ax": 0, "ay": -20}
    return {"name": "label", "text": text, "x": x, "y": y, "font": font, **arrow}


def note(text: str, x: float, y: float, color: str = SOFT, **where: Any) -> dict[str, Any]:
    """A text without an arrow, placed by shares of the figure unless `where` says otherwise."""
    position = {"x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "middle"}
    return {"text": text, "showarrow": False, "font": {"color": color, "size": 12}} | position | where


def axis(
    span: list[float] | None = None, zero: bool = False, grid: bool = True, ticksuffix: str = ""
) -> dict[str, Any]:
    """An axis without zoom, so that a finger scrolls the window instead."""
    reach = {"range": span} if span else {}
    look = {"gridcolor": LINE, "zeroline": zero, "zerolinecolor": SOFT, "zerolinewidth": 1, "automargin": False}
    return {"fixedrange": True, "showgrid": grid, "ticksuffix": ticksuffix, "nticks": 7, **look, **reach}


def layout(height: float, margin: dict[str, float], **more: Any) -> dict[str, Any]:
    """What all figures have in common."""
    return {
        "height": height,
        "margin": margin,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": SOFT},
        "hoverlabel": {"bgcolor": "#fff", "bordercolor": SOFT, "font": {"color": INK, "size": 13}, "align": "left"},
        "hovermode": "closest",
        "dragmode": False,
        "showlegend": False,
    } | more
