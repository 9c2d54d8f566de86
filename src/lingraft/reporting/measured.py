"""Measurements by language, as groups of rows to draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lingraft.reporting.dumbbells import Group, Row, dumbbells
from lingraft.reporting.figures import Figure, curves, escaped, signed
from lingraft.reporting.read import ROLES, Run, language_name

UNITS = {"chrf": "chrF", "bleu": "BLEU"}
"""Scores that are no share of questions answered right."""
LEAST_CHANGE, LEAST_ACCURACY = 5.0, 20.0
"""Smallest span of an axis, in percent, so that a small change looks small."""


def bits(runs: Sequence[Run], role: str) -> Figure | None:
    """Change in bits per byte, in percent of the base, so that all languages start from one line.

    `None` where no run has a language of this role measured against a base.
    """
    groups = []
    for code, entries in _by_language([(run, run.languages) for run in runs], role).items():
        measured = [(run, entry["bits_per_byte"]) for run, entry in entries]
        against = [(run, bits_of) for run, bits_of in measured if bits_of.get("before")]  # no percentage of 0
        if against:
            base = _agreed(f"base {bits_of['before']:.3f}" for _, bits_of in against)
            groups.append(Group(language_name(code), _note(_code(code), base), [_bits_row(*pair) for pair in against]))
    return dumbbells(groups, " %", 0.0, LEAST_CHANGE) if groups else None


def bits_alone(runs: Sequence[Run]) -> Figure | None:
    """Bits per byte of models that were measured without a base."""
    groups = []
    for code, entries in _by_language([(run, run.languages) for run in runs]).items():
        measured = [(run, entry["bits_per_byte"]) for run, entry in entries]
        rows = [
            _plain_row(run, 0.0, bits_of["after"], "bits per byte", 3)
            for run, bits_of in measured
            if "before" not in bits_of
        ]
        if rows:
            groups.append(Group(language_name(code), _code(code), rows))
    return dumbbells(groups, "", 0.0) if groups else None


def task(runs: Sequence[Run], name: str) -> Figure:
    """Scores of one task, from 0 to 100, with the line of chance."""
    groups = []
    metric = metric_of(runs, name)
    measured = [(run, run.tasks.get(name, {}).get("languages", {})) for run in runs]
    for code, entries in _by_language(measured).items():
        scores = [entry["score"] for _, entry in entries]
        base = _agreed(f"base {100 * score['before']:.1f}" for score in scores if "before" in score)
        role, chance = _agreed(ROLES[entry["role"]] for _, entry in entries), 100 * entries[0][1]["chance"]
        rows = [_task_row(run, chance, entry["score"], metric) for run, entry in entries]
        groups.append(Group(language_name(code), _note(role, base), rows, chance))
    return dumbbells(groups, "" if metric in UNITS else " %", least=LEAST_ACCURACY)


def by_examples(runs: Sequence[Run], name: str) -> Figure | None:
    """Scores of a task by the number of examples before, of the base and of each run, over retained languages.

    Over all languages, where none is retained.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        entries = [of for of in run.tasks.get(name, {}).get("languages", {}).values() if of.get("by_examples")]
        chosen = [of["by_examples"] for of in entries if of["role"] == "retain"] or [
            of["by_examples"] for of in entries
        ]
        for label, when in (("base", "before"), (run.label, "after")):
            measured = [of[when] for of in chosen if of.get(when)]
            if measured:
                means = [100 * sum(values) / len(values) for values in zip(*measured, strict=False)]
                lines.setdefault(label, list(enumerate(means)))
    return curves(lines, list(lines), ["base"], across="examples", unit="%", height=260) if lines else None


def metric_of(runs: Sequence[Run], name: str) -> str:
    """What a task is scored by."""
    return next((str(run.tasks[name].get("metric", "accuracy")) for run in runs if name in run.tasks), "accuracy")


def _by_language(
    measured: Sequence[tuple[Run, dict[str, Any]]], only: str | None = None
) -> dict[str, list[tuple[Run, dict[str, Any]]]]:
    """Language -> runs that measured it (in this role) with their entries, in the order of roles."""
    found: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    for role in ROLES if only is None else [only]:
        for code in sorted(
            {code for _, languages in measured for code, entry in languages.items() if entry["role"] == role}
        ):
            found.setdefault(
                code, [(run, languages[code]) for run, languages in measured if _has(languages, code, only)]
            )
    return found


def _has(languages: dict[str, Any], code: str, role: str | None) -> bool:
    return code in languages and role in (None, languages[code]["role"])


def _agreed(texts: Iterable[str]) -> str:
    """The text that all share; empty where they differ."""
    distinct = set(texts)
    return distinct.pop() if len(distinct) == 1 else ""


def _note(*parts: str) -> str:
    return " · ".join(filter(None, parts))


def _code(code: str) -> str:
    """The code beside a language's name; empty where the name is the code."""
    return "" if language_name(code) == code else escaped(code)


def _bits_row(run: Run, bits: dict[str, Any]) -> Row:
    percent = 100 / bits["before"]
    change, interval = percent * bits["delta"], _interval(bits, percent)
    hover = (
        f"<b>{escaped(run.label)}</b><br>{bits['before']:.4f} → {bits['after']:.4f} bits per byte"
        f"<br>{signed(change)} %{_interval_text(interval, ' %')}"
    )
    lost = interval is not None and interval[0] > 0
    return Row(run, 0.0, 0.0, change, interval, lost, f"{bits['after']:.3f}", f"{signed(change)} %", hover)


def _task_row(run: Run, chance: float, score: dict[str, Any], metric: str) -> Row:
    after, unit = 100 * score["after"], UNITS.get(metric, "% right")
    if "before" not in score:
        return _plain_row(run, chance, after, unit, 1)
    before, delta, interval = 100 * score["before"], 100 * score["delta"], _interval(score, 100)
    hover = (
        f"<b>{escaped(run.label)}</b><br>{before:.1f} → {after:.1f} {unit}"
        f"<br>{signed(delta)} points{_interval_text(interval, '')}"
    )
    around = interval and (before + interval[0], before + interval[1])
    lost = interval is not None and interval[1] < 0
    return Row(run, before, before, after, around, lost, f"{after:.1f}", signed(delta), hover)


def _interval(measure: dict[str, Any], scale: float) -> tuple[float, float] | None:
    """The interval of the change; `None` for a single document or question."""
    ends = measure.get("ci95")
    return (scale * ends[0], scale * ends[1]) if ends else None


def _interval_text(interval: tuple[float, float] | None, unit: str) -> str:
    return f", 95 %: {signed(interval[0])} to {signed(interval[1])}{unit}" if interval else ""


def _plain_row(run: Run, start: float, after: float, unit: str, digits: int) -> Row:
    hover = f"<b>{escaped(run.label)}</b><br>{after:.{digits + 1}f} {unit}"
    return Row(run, start, None, after, None, False, f"{after:.{digits}f}", "", hover)
