"""The report of a sweep: runs that differ in the seed alone are one line, with their mean and its interval."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, mean, stdev
from typing import Any

from lingraft.cache import json_text, read_json
from lingraft.errors import UserError
from lingraft.reporting.figures import SOFT, Figure, axis, directions, escaped, label, layout, points, signed
from lingraft.reporting.read import COLOURS, SYMBOLS, Style, language_name
from lingraft.schema import Results

SWEEP_FILE = "sweep.json"
"""In the folder of a sweep: its runs, and in what they differ."""
MOST_LABELS = 12
"""With more points than these, a label shows when one points at it."""
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantiles of Student's t with 1 to 10 degrees of freedom."""
LEAST = 10.0
"""Smallest span of an axis, in percent."""


@dataclass(frozen=True)
class Figures:
    """Mean over runs, and the half of its 95 % interval; None of one run."""

    mean: float
    half: float | None


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone."""

    name: str
    values: Mapping[str, str]
    """What differs between groups, by the last word of its path."""
    runs: Sequence[str]
    figures: Mapping[str, Figures]
    places: Sequence[tuple[float, float]]
    """Forgetting and learning of each run, in percent, where it has both."""


def is_sweep(folder: Path) -> bool:
    return (folder / SWEEP_FILE).is_file()


def draw_sweep(folder: Path) -> str:
    """The HTML of the report.

    Raises:
        UserError: no run is finished.
    """
    from lingraft.reporting.page import render

    runs = _finished(folder)
    groups, waiting = _groups(folder, runs), [name for name in _recorded(folder) if name not in runs]
    placed = [group for group in groups if {"learning", "forgetting"} <= group.figures.keys()]
    return render(
        "sweep.html",
        groups=groups,
        varying=list(dict.fromkeys(key for group in groups for key in group.values)),
        figures=list(dict.fromkeys(name for group in groups for name in group.figures)),
        plane=_plane(placed) if placed else None,
        runs=runs,
        waiting=waiting,
        bases=list(dict.fromkeys(results["base"] for results in runs.values() if results.get("base"))),
        has_seeds=any(len(group.runs) > 1 for group in groups),
    )


def runs_csv(folder: Path) -> str:
    """Every finished run: what it is, and its figures, unrounded."""
    rows = _flat(folder)
    text = io.StringIO()
    keys = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def runs_json(folder: Path) -> str:
    return json_text(_flat(folder))


def _flat(folder: Path) -> list[dict[str, Any]]:
    recorded = _recorded(folder)
    return [
        {
            "run": name,
            **{path: _plain(value) for path, value in recorded[name]["values"].items()},
            **{title: figure for title, (figure, _) in _measured(results).items()},
        }
        for name, results in _finished(folder).items()
    ]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)


def _recorded(folder: Path) -> dict[str, dict[str, Any]]:
    recorded: dict[str, dict[str, Any]] = read_json(folder / SWEEP_FILE)["runs"]
    return recorded


def is_any_finished(folder: Path) -> bool:
    return any(_of_newest_recipe(folder))


def _of_newest_recipe(folder: Path) -> Iterator[tuple[str, Path]]:
    """The runs of the newest state of the recipe that have results."""
    record = read_json(folder / SWEEP_FILE)
    for name, run in record["runs"].items():
        file = folder / name / "results.json"
        if run.get("version") == record.get("version") and file.is_file():
            yield name, file


def _finished(folder: Path) -> dict[str, dict[str, Any]]:
    """The results of the runs that have any, by name."""
    found = {name: Results.model_validate(read_json(file)).to_json() for name, file in _of_newest_recipe(folder)}
    if not found:
        raise UserError(f"{folder}: no run of this sweep is finished")
    return found


def _measured(results: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Figures of one run by title, each with the factor by which it is shown."""
    found = {name: (results[name], 100.0) for name in ("learning", "forgetting") if name in results}
    for code, entry in results["languages"].items():
        bits = entry["bits_per_byte"]
        if bits.get("before"):
            found[f"{language_name(code)}, bits per byte"] = (bits["after"] / bits["before"] - 1, 100.0)
    for task, of_task in (results.get("tasks") or {}).items():
        for name in ("learning", "forgetting"):
            if name in of_task:
                found[f"{task}, {name}"] = (of_task[name], 100.0)
    if chat := results.get("chat"):
        bits = chat["bits_per_byte"]
        if bits.get("before"):
            found["chat, bits per byte"] = (bits["after"] / bits["before"] - 1, 100.0)
        if "same_beginning" in chat:
            found["answers that begin as before"] = (chat["same_beginning"], 100.0)
    return found


def _groups(folder: Path, runs: Mapping[str, Mapping[str, Any]]) -> list[Group]:
    recorded = _recorded(folder)
    paths = list(dict.fromkeys(path for run in recorded.values() for path in run["values"]))
    last = [path.rpartition(".")[2] for path in paths]
    titles_of = {path: word if last.count(word) == 1 else path for path, word in zip(paths, last, strict=True)}
    names: dict[str, list[str]] = {}
    for name in runs:
        names.setdefault(recorded[name]["group"], []).append(name)
    groups = []
    for group, members in names.items():
        measured = [_measured(runs[name]) for name in members]
        titles = [title for title in measured[0] if all(title in of for of in measured)]
        shown = {title: _mean([of[title][0] * of[title][1] for of in measured]) for title in titles}
        values = {path: str(_plain(value)) for path, value in recorded[members[0]]["values"].items() if path != "seed"}
        words = {titles_of[path]: value for path, value in values.items()}
        sums = [runs[name] for name in members if {"learning", "forgetting"} <= runs[name].keys()]
        places = [(100 * of["forgetting"], 100 * of["learning"]) for of in sums]
        groups.append(Group(group, words, members, shown, places))
    return groups


def _mean(values: Sequence[float]) -> Figures:
    if len(values) < 2:
        return Figures(values[0], None)
    return Figures(mean(values), _student(len(values) - 1) * stdev(values) / len(values) ** 0.5)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; beyond the table by its expansion around the normal one (1e-4 off)."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _plane(groups: Sequence[Group]) -> Figure:
    """Forgetting to the right, learning upwards, in percent: the mean of each setting, and small, its runs."""
    xs, ys = zip((0.0, 0.0), *(place for group in groups for place in group.places), strict=True)
    width, height = max(max(xs) - min(xs), LEAST), max(max(ys) - min(ys), LEAST)
    labelled = groups if len(groups) <= MOST_LABELS else []
    symbols = list(SYMBOLS.items())
    data = [points("base", [0], [0], Style(SOFT, "circle-open", "○"), ["<b>base</b>"])]
    for i, group in enumerate(groups):
        forgetting, learning = group.figures["forgetting"], group.figures["learning"]
        style = Style(COLOURS[i % len(COLOURS)], *symbols[i // len(COLOURS) % len(symbols)])
        hover = f"<b>{escaped(group.name)}</b><br>learning {_text(learning)} %<br>forgetting {_text(forgetting)} %"
        if len(group.places) > 1:
            across, up = zip(*group.places, strict=True)
            names = [f"<b>{escaped(name)}</b>" for name in group.runs]
            data.append({**points("", across, up, style, names, size=5), "opacity": 0.55})
        data.append(points(escaped(group.name, 28), [forgetting.mean], [learning.mean], style, [hover]))
    named = [("base", 0.0, 0.0)] if labelled else []
    for group in labelled:
        named.append((escaped(group.name, 28), group.figures["forgetting"].mean, group.figures["learning"].mean))
    look = layout(
        460,
        {"l": 50, "r": 16, "t": 40, "b": 54},
        xaxis=axis([min(xs) - 0.06 * width, min(xs) + 1.1 * width], zero=True, ticksuffix=" %"),
        yaxis=axis([min(ys) - 0.12 * height, min(ys) + 1.12 * height], zero=True, ticksuffix=" %"),
        annotations=[*directions(), *(label(*of) for of in named)],
    )
    return {"data": data, "layout": look}


def _text(figures: Figures) -> str:
    return signed(figures.mean) + (f" ± {figures.half:.1f}" if figures.half is not None else "")
