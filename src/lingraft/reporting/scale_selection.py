"""Scale selection under `max_forgetting`: the measured candidates, as a figure and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lingraft.reporting.figures import (
    INK,
    LEAST,
    SOFT,
    Figure,
    axis,
    directions,
    escaped,
    label,
    layout,
    note,
    points,
    signed,
)
from lingraft.reporting.read import GROUPS, Run, Style

ROOM = 1.5
"""The axis of forgetting reaches at least this multiple of the limit."""


def limit(run: Run) -> dict[str, Any] | None:
    """Scale selection under the limit on forgetting; `None` where the recipe has no limit."""
    found = run.results.get("max_forgetting")
    if not found:
        return None
    groups = {group: _title(group, found["layers"]) for group in found["chosen"]["scales"]}
    return {**found, "groups": groups, "figure": _figure(run, found, groups)}


def _title(group: str, layers: dict[str, int]) -> str:
    """`first 10 layers`, where the number of layers is known."""
    count = layers.get(group)
    return f"{group} {count} layer{'s' if count != 1 else ''}" if count is not None else GROUPS.get(group, group)


def _figure(run: Run, found: dict[str, Any], groups: dict[str, str]) -> Figure:
    """Learning against forgetting of all candidates of one run; the curve has one factor for all groups."""
    chosen, seen = found["chosen"], found["points"]
    by_factor = {factor: point for point in seen if (factor := _only_factor(point))}
    curve = [by_factor[factor] for factor in sorted(by_factor)]
    others = [point for point in seen if _only_factor(point) is None]
    xs, ys = zip((0.0, 0.0), *map(_place, [*seen, chosen]), strict=True)
    ends = [*xs, 100 * chosen["at_most"], ROOM * 100 * found["limit"]]
    (left, width), (low, height) = (_span(ends, 0.0), _span(ys, LEAST))
    look = layout(
        360,
        {"l": 50, "r": 20, "t": 56, "b": 54},
        xaxis=axis([left - 0.06 * width, left + 1.06 * width], zero=True, ticksuffix=" %"),
        yaxis=axis([low - 0.08 * height, low + 1.08 * height], zero=True, ticksuffix=" %"),
        shapes=[_upright(100 * found["limit"])],
        annotations=[
            *directions(above=42),
            note(f"limit {100 * found['limit']:g} %", 100 * found["limit"], 1, xref="x", xanchor="center", yshift=10),
            label("base", 0.0, 0.0, SOFT, 12),
            *(
                label(f"{_only_factor(candidate):g}", *_place(candidate), SOFT, 12)
                for candidate in curve
                if candidate != chosen and _is_step(candidate)
            ),
            label(_chosen(chosen), *_place(chosen), INK, 13),
        ],
    )
    of_curve, base = Style(run.style.colour, "circle", "●"), Style(SOFT, "circle-open", "○")
    line_x, line_y = zip((0.0, 0.0), *map(_place, curve), strict=True)
    line = {"color": run.style.colour, "width": 1.5}
    whisker = {"array": [max(0.0, 100 * (chosen["at_most"] - chosen["forgetting"]))], "arrayminus": [0.0]}
    return {
        "data": [
            {"type": "scatter", "mode": "lines", "x": line_x, "y": line_y, "line": line, "hoverinfo": "skip"},
            _marks("factors that differ", others, base, groups, 5),
            _marks("one factor", curve, of_curve, groups, 6),
            points("base", [0.0], [0.0], base, ["<b>base</b><br>nothing is kept"]),
            _marks(escaped(run.label), [chosen], run.style, groups, 11)
            | {"error_x": {**whisker, "color": SOFT, "thickness": 1.2, "width": 4}},
        ],
        "layout": look,
    }


def _place(point: dict[str, Any]) -> tuple[float, float]:
    """Forgetting and learning, in percent."""
    return 100 * point["forgetting"], 100 * point["learning"]


def _only_factor(point: dict[str, Any]) -> float | None:
    """The factor that all groups share; `None` where factors differ."""
    factors = set(point["scales"].values())
    return float(factors.pop()) if len(factors) == 1 else None


def _is_step(point: dict[str, Any]) -> bool:
    """Whether the factor is one of the steps; factors between steps have no label."""
    factor = _only_factor(point)
    return factor is not None and abs(factor - round(factor, 1)) < 1e-9


def _chosen(point: dict[str, Any]) -> str:
    factor = _only_factor(point)
    return "chosen" if factor is None else f"chosen: {factor:.3g}"


def _span(values: Sequence[float], least: float) -> tuple[float, float]:
    """The lowest value, and how far the axis reaches from it."""
    return min(values), max(max(values) - min(values), least) or 1.0


def _upright(x: float) -> dict[str, Any]:
    ends = {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    return {**ends, "line": {"color": SOFT, "width": 1.5, "dash": "dash"}}


def _marks(
    name: str, candidates: Sequence[dict[str, Any]], style: Style, groups: dict[str, str], size: float
) -> dict[str, Any]:
    places = [_place(point) for point in candidates]
    xs, ys = [x for x, _ in places], [y for _, y in places]
    return points(name, xs, ys, style, [_hover(point, groups) for point in candidates], size)


def _hover(point: dict[str, Any], groups: dict[str, str]) -> str:
    forgetting, learning = _place(point)
    factor = _only_factor(point)
    kept = [f"{escaped(groups[group])} {scale:.3g}" for group, scale in point["scales"].items()]
    return "<br>".join(
        [
            *(kept if factor is None else [f"<b>all groups {factor:.3g}</b>"]),
            f"learning {signed(learning, 2)} %",
            f"forgetting {signed(forgetting, 2)} %, at most {signed(100 * point['at_most'], 2)} %",
        ]
    )
