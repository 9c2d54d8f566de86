"""Bits per byte after each stage of a run: which stage learned a language, and which forgot it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from textwrap import wrap
from typing import Any

from lingraft.reporting.figures import INK, SOFT, Figure, curves, escaped, note, signed
from lingraft.reporting.read import Run
from lingraft.reporting.tables import Cell

Lines = dict[str, list[tuple[float, float]]]

HEIGHT, TOP, BOTTOM, ASLANT, RIGHT = 320, 12, 24, 76, 84
LABEL = 16
"""Longest name of a stage below the axis, in characters."""
BETWEEN = 14
"""Pixels between two names at the ends of lines."""
NARROW, LETTER = 230, 6.3
"""Pixels between the first and the last stage on a telephone, and pixels per letter."""


def stage_results(run: Run) -> dict[str, Any] | None:
    """Bits per byte after each stage, as a figure and as rows; None for a run of one stage."""
    found = run.results.get("stages")
    if not found:
        return None
    bits = {code: entry["bits_per_byte"] for code, entry in run.languages.items()}
    base = {code: entry["before"] for code, entry in bits.items() if "before" in entry}
    along: list[dict[str, Any]] = [{"name": "base", "languages": base}, *found]
    codes = list(dict.fromkeys([*bits, *(code for stage in found for code in stage["languages"])]))
    codes = [code for code in codes if any(code in stage["languages"] for stage in found)]
    roles = {code: run.languages.get(code, {}).get("role") for code in codes}
    sums = [name for name in ("learning", "forgetting") if any(stage.get(name) is not None for stage in found)]
    return {
        "figure": _figure(along, roles) if codes else None,
        "names": [stage["name"] for stage in along],
        "rows": [{"code": code, "role": roles[code], "cells": _row(along, code)} for code in codes],
        "sums": {name: [_share(stage.get(name)) for stage in along] for name in sums},
    }


def _row(along: Sequence[dict[str, Any]], code: str) -> list[tuple[Cell, Cell]]:
    """A language's bits after each stage, and the change from the stage before."""
    bits = [stage["languages"].get(code) for stage in along]
    changes = [Cell(), *(_change(*pair) for pair in pairwise(bits))]
    values = [Cell() if value is None else Cell(f"{value:.4f}", value) for value in bits]
    return list(zip(values, changes, strict=True))


def _change(before: float | None, after: float | None) -> Cell:
    """The change in percent; marked as lost where the rounded change is above 0."""
    if not before or after is None:
        return Cell()
    change = after / before - 1
    seen = round(100 * change, 1)
    return Cell(f"{'▲' if seen > 0 else '▼' if seen < 0 else ''} {seen:+.1f} %", change, "lost" if seen > 0 else "")


def _share(value: float | None) -> Cell:
    return Cell() if value is None else Cell(f"{100 * value:+.1f} %", value)


def _figure(along: Sequence[dict[str, Any]], roles: dict[str, str | None]) -> Figure:
    """A line per language, with its name at the end; learned languages keep their colours of the other figures."""
    lines = {
        code: [(float(i), stage["languages"][code]) for i, stage in enumerate(along) if code in stage["languages"]]
        for code in roles
    }
    quiet = [code for code in roles if roles[code] != "learn"]
    ticks = _ticks([stage["name"] for stage in along])
    folds = max(text.count("<br>") for text in ticks["ticktext"])
    bottom = ASLANT if ticks["tickangle"] else BOTTOM + BETWEEN * folds
    height = max(HEIGHT, TOP + bottom + BETWEEN * (len(lines) + 1))
    figure = curves(lines, list(roles), quiet, across="", unit="bits per byte", height=height)
    for code, trace in zip(roles, figure["data"], strict=True):
        trace |= {"mode": "lines+markers", "hovertext": _hovers(code, lines[code], along)}
    low, high = _reach([y for line in lines.values() for _, y in line])
    look, inside = figure["layout"], height - TOP - bottom
    ends = {code: inside * (high - line[-1][1]) / (high - low) for code, line in lines.items()}
    colours = {code: trace["line"]["color"] for code, trace in zip(roles, figure["data"], strict=True)}
    names, leads = _names(ends, colours, quiet, inside)
    look["xaxis"] |= ticks
    look["yaxis"] |= {"range": [low, high], "type": "linear"}
    return figure | {
        "layout": look
        | {"margin": {"l": 44, "r": RIGHT, "t": TOP, "b": bottom}, "showlegend": False}
        | {"annotations": names, "shapes": leads}
    }


def _hovers(code: str, line: Sequence[tuple[float, float]], along: Sequence[dict[str, Any]]) -> list[str]:
    texts = []
    for i, (place, bits) in enumerate(line):
        before = line[i - 1][1] if i else None
        change = f"<br>{signed(100 * (bits / before - 1))} % in this stage" if before else ""
        texts.append(
            f"<b>{escaped(code)}</b><br>{escaped(along[int(place)]['name'])}<br>{bits:.4f} bits per byte{change}"
        )
    return texts


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """The range of the axis; it starts at 0, so that falls look as large as they are."""
    return 0.0, 1.06 * max(values) or 1.0


def _ticks(names: Sequence[str]) -> dict[str, Any]:
    """The names of stages as ticks: wrapped where they fit on a telephone, else slanted."""
    short = [" ".join(name.split()) for name in names]
    short = [name if len(name) <= LABEL else f"{name[: LABEL - 8]}…{name[-7:]}" for name in short]
    folded = [wrap(name, 11, break_long_words=False) or [name] for name in short]
    room = NARROW / (len(names) - 1)
    upright = all(LETTER * len(part) < room for parts in folded for part in parts) and max(map(len, folded)) < 4
    texts = ["<br>".join(escaped(part) for part in parts) for parts in folded] if upright else map(escaped, short)
    return {
        "range": [-0.04 * (len(names) - 1), len(names) - 1],
        "tickvals": list(range(len(names))),
        "ticktext": list(texts),
        "tickangle": 0 if upright else -30,
        "title": {"text": ""},
    }


def _names(
    ends: dict[str, float], colours: dict[str, str], quiet: Sequence[str], inside: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Names to the right of the lines, without overlap, each with a lead from the end of its line."""
    names, leads = [], []
    for code, place in zip(sorted(ends, key=ends.__getitem__), _apart(sorted(ends.values()), inside), strict=True):
        text = escaped(code, 11)
        height, end = 1 - place / inside, 1 - ends[code] / inside
        names.append(
            note(text if code in quiet else f"<b>{text}</b>", 1, height, SOFT if code in quiet else INK, xshift=17)
        )
        lead = {"type": "line", "xref": "paper", "xanchor": 1, "xsizemode": "pixel", "x0": 6, "x1": 16, "yref": "paper"}
        leads.append({**lead, "y0": end, "y1": height, "line": {"color": colours[code], "width": 1}})
    return names, leads


def _apart(places: Sequence[float], inside: float) -> list[float]:
    """Positions moved just enough to be `BETWEEN` apart and inside."""
    apart: list[float] = []
    for place in places:
        apart.append(max(place, apart[-1] + BETWEEN) if apart else place)
    limit = inside
    for i in reversed(range(len(apart))):
        apart[i] = min(apart[i], limit)
        limit = apart[i] - BETWEEN
    return apart
