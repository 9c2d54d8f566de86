"""The report of a sweep: runs that differ in the seed alone are one line, with their mean and its interval."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lingraft.cache import read_json, read_record
from lingraft.errors import UserError
from lingraft.evaluation.spearman import spearman
from lingraft.evaluation.student_t import student_t
from lingraft.reporting.figures import SOFT, Figure, escaped, plane_layout, points, signed
from lingraft.reporting.progress import monotonicity
from lingraft.reporting.read import COLOURS, SYMBOLS, Style, language_name
from lingraft.schema import Results

SWEEP_FILE = "sweep.json"
"""In the folder of a sweep: its runs, and in what they differ."""
STABLE_ORDER = 0.5
"""Rank correlation from which an order counts as the same."""
MOST_LABELS = 12
"""With more points than these, a label shows when one points at it."""


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
    """Forgetting and learning of each run, in percent, where all have both."""


class Sign(NamedTuple):
    """Whether a figure tells settings apart, by the four signs of FineTasks: above chance, low noise, a stable order,
    monotonic.
    """

    figure: str
    between_settings: float
    """The deviation of the settings' means, in the figure's unit."""
    between_seeds: float
    """The deviation of a setting's runs, once the mean over settings is taken off each seed."""
    order: float | None
    """Mean of Spearman's rank correlation of the settings between two seeds."""
    steady: float | None
    """Mean over runs of the size of Spearman's rank correlation of the step with the figure, measured in training."""

    is_above_chance: bool = True
    """Of a task: whether a model is better than guessing in any run."""

    @property
    def tells(self) -> bool:
        """Whether settings differ by more than their seeds do, in a stable order, and not by guessing."""
        return self.is_above_chance and self.between_settings > self.between_seeds and (self.order or 0) >= STABLE_ORDER

    @property
    def is_unsteady(self) -> bool:
        """Whether it went up and down while models trained, so that its last value is one of many."""
        return self.steady is not None and self.steady < STABLE_ORDER


def is_sweep(folder: Path) -> bool:
    return (folder / SWEEP_FILE).is_file()


@dataclass(frozen=True)
class SweepResults:
    """What is known of a sweep: its runs, and the results of those that are finished."""

    recorded: Mapping[str, Mapping[str, Any]]
    """Run -> its `group` and `values`."""
    finished: Mapping[str, Mapping[str, Any]]
    """Run -> its results, of the newest state of the recipe."""
    logs: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    """Run -> the log of its training, of one stage."""

    @classmethod
    def read(cls, folder: Path) -> SweepResults:
        record = read_json(folder / SWEEP_FILE)
        files = {
            name: folder / name / "results.json"
            for name, run in record["runs"].items()
            if run.get("version") == record.get("version")
        }
        found = {
            name: Results.model_validate(read_json(file)).to_json() for name, file in files.items() if file.is_file()
        }
        logs = {name: (read_record(folder / name / "training.json") or {}).get("log") or [] for name in found}
        return cls(record["runs"], found, logs)


def draw_sweep(sweep: SweepResults) -> str:
    """The HTML of the report.

    Raises:
        UserError: no run is finished.
    """
    from lingraft.reporting.page import render

    runs, groups = sweep.finished, _groups(sweep)
    if not runs:
        raise UserError(f"no run of this sweep is finished: {', '.join(sweep.recorded)}")
    placed = [group for group in groups if group.places]
    return render(
        "sweep.html",
        groups=groups,
        varying=list(dict.fromkeys(key for group in groups for key in group.values)),
        figures=list(dict.fromkeys(name for group in groups for name in group.figures)),
        plane=_plane(placed) if placed else None,
        runs=runs,
        waiting=[name for name in sweep.recorded if name not in runs],
        bases=list(dict.fromkeys(results["base"] for results in runs.values() if results.get("base"))),
        has_seeds=any(len(group.runs) > 1 for group in groups),
        signs=signs_of(sweep),
    )


def signs_of(sweep: SweepResults) -> list[Sign]:
    """Of each figure that all runs have, where three or more settings were run with the same two or more seeds."""
    by_setting: dict[str, dict[Any, dict[str, float]]] = {}
    for name, results in sweep.finished.items():
        record = sweep.recorded[name]
        by_setting.setdefault(record["group"], {})[record["values"].get("seed")] = _measured(results)
    seeds = set.intersection(*(set(of) for of in by_setting.values())) if by_setting else set()
    if len(by_setting) < 3 or len(seeds) < 2:
        return []
    runs = [[of[seed] for seed in sorted(seeds, key=str)] for of in by_setting.values()]
    figures = [name for name in runs[0][0] if all(name in run for of in runs for run in of)]
    guessed = _guessed(sweep.finished.values())
    steady = [monotonicity(results, sweep.logs.get(name, [])) for name, results in sweep.finished.items()]
    return [
        _sign(
            name,
            100 * np.array([[run[name] for run in of] for of in runs]),
            [abs(run[name]) for run in steady if name in run],
            name not in guessed,
        )
        for name in figures
    ]


def _guessed(runs: Iterable[Mapping[str, Any]]) -> set[str]:
    """Figures of tasks in whose languages, learned or retained, no model of any run is better than guessing."""
    above: dict[str, list[bool]] = {}
    for results in runs:
        for task, of_task in (results.get("tasks") or {}).items():
            for entry in of_task["languages"].values():
                kind = {"learn": "learning", "retain": "forgetting"}.get(entry["role"], "")
                above.setdefault(f"{task}, {kind}", []).append(entry.get("above_chance", True))
    return {name for name, of in above.items() if not any(of)}


def _sign(name: str, values: npt.NDArray[np.float64], steady: Sequence[float], is_above_chance: bool) -> Sign:
    """`values`: (settings, seeds)."""
    rest = values - values.mean(0) - (values - values.mean(0)).mean(1, keepdims=True)
    freedom = (len(values) - 1) * (values.shape[1] - 1)
    orders = [spearman(one, other) for one, other in combinations(values.T.tolist(), 2)]
    known = [order for order in orders if order is not None]
    order = mean(known) if known else None
    between_settings, between_seeds = values.mean(1).std(ddof=1), ((rest**2).sum() / freedom) ** 0.5
    known_steady = mean(steady) if steady else None
    return Sign(name, float(between_settings), float(between_seeds), order, known_steady, is_above_chance)


def flat(sweep: SweepResults) -> list[dict[str, Any]]:
    """Every finished run as a row: what it is, and its figures, unrounded."""
    return [
        {
            "run": name,
            **{path: _plain(value) for path, value in sweep.recorded[name]["values"].items()},
            **_measured(results),
        }
        for name, results in sweep.finished.items()
    ]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    keys = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)


def _measured(results: Mapping[str, Any]) -> dict[str, float]:
    """Figures of one run by title, as shares."""
    found = {name: results[name] for name in ("learning", "forgetting") if name in results}
    for code, entry in results["languages"].items():
        bits = entry["bits_per_byte"]
        if bits.get("before"):
            found[f"{language_name(code)}, bits per byte"] = bits["after"] / bits["before"] - 1
    for task, of_task in (results.get("tasks") or {}).items():
        for name in ("learning", "forgetting"):
            if name in of_task:
                found[f"{task}, {name}"] = of_task[name]
    if chat := results.get("chat"):
        bits = chat["bits_per_byte"]
        if bits.get("before"):
            found["chat, bits per byte"] = bits["after"] / bits["before"] - 1
        if "same_beginning" in chat:
            found["answers that begin as before"] = chat["same_beginning"]
    return found


def _groups(sweep: SweepResults) -> list[Group]:
    paths = list(dict.fromkeys(path for run in sweep.recorded.values() for path in run["values"] if path != "seed"))
    last = [path.rpartition(".")[2] for path in paths]
    titles_of = {path: word if last.count(word) == 1 else path for path, word in zip(paths, last, strict=True)}
    names: dict[str, list[str]] = {}
    for name in sweep.finished:
        names.setdefault(sweep.recorded[name]["group"], []).append(name)
    groups = []
    for group, members in names.items():
        measured = [_measured(sweep.finished[name]) for name in members]
        titles = [title for title in measured[0] if all(title in of for of in measured)]
        shown = {title: _mean([100 * of[title] for of in measured]) for title in titles}
        values = sweep.recorded[members[0]]["values"]
        words = {title: str(_plain(values[path])) for path, title in titles_of.items() if path in values}
        has_place = {"learning", "forgetting"} <= shown.keys()
        places = [(100 * of["forgetting"], 100 * of["learning"]) for of in measured] if has_place else []
        groups.append(Group(group, words, members, shown, places))
    return groups


def _mean(values: Sequence[float]) -> Figures:
    if len(values) < 2:
        return Figures(values[0], None)
    return Figures(mean(values), student_t(len(values) - 1) * stdev(values) / len(values) ** 0.5)


def _plane(groups: Sequence[Group]) -> Figure:
    """Forgetting to the right, learning upwards, in percent: the mean of each setting, and small, its runs."""
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
    base = (0.0, 0.0)
    named = [("base", base)] if labelled else []
    for group in labelled:
        named.append((escaped(group.name, 28), (group.figures["forgetting"].mean, group.figures["learning"].mean)))
    return {"data": data, "layout": plane_layout([base, *(at for group in groups for at in group.places)], named)}


def _text(figures: Figures) -> str:
    return signed(figures.mean) + (f" ± {figures.half:.1f}" if figures.half is not None else "")
