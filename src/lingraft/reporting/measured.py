"""What was measured, language by language, as groups of rows to be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lingraft.reporting.dumbbells import Group, Row, dumbbells
from lingraft.reporting.figures import Figure, escaped, signed
from lingraft.reporting.read import ROLES, Run, language_name

LEAST_CHANGE, LEAST_ACCURACY = 5.0, 20.0
"""What an axis spans at least, in percent, so that a little looks little."""


def bits(runs: Sequence[Run], role: str) -> Figure | None:
    """The change in bits per byte, in percent of the base, so that all languages start from one line.

    `None` where no run has a language of this role measured against a base.
    """
    groups = []
    for code, entries in _by_language([(run, run.languages) for run in runs], role).items():
        measured = [(run, entry["bits_per_byte"]) for run, entry in entries]
        against = [(run, of) for run, of in measured if of.get("before")]  # a share of nothing cannot be drawn
        if against:
            base = _agreed(f"base {of['before']:.3f}" for _, of in against)
            groups.append(Group(language_name(code), _note(_code(code), base), [_bits_row(*of) for of in against]))
    return dumbbells(groups, " %", 0.0, LEAST_CHANGE) if groups else None


def bits_alone(runs: Sequence[Run]) -> Figure | None:
    """Bits per byte of models that were measured without a base."""
    groups = []
    for code, entries in _by_language([(run, run.languages) for run in runs]).items():
        measured = [(run, entry["bits_per_byte"]) for run, entry in entries]
        rows = [_plain_row(run, 0.0, of["after"], "bits per byte", 3) for run, of in measured if "before" not in of]
        if rows:
            groups.append(Group(language_name(code), _code(code), rows))
    return dumbbells(groups, "", 0.0) if groups else None


def task(runs: Sequence[Run], name: str) -> Figure:
    """Accuracies of one task, in percent, with the line of chance."""
    groups = []
    measured = [(run, run.tasks.get(name, {}).get("languages", {})) for run in runs]
    for code, entries in _by_language(measured).items():
        accuracies = [of["accuracy"] for _, of in entries]
        base = _agreed(f"base {100 * of['before']:.1f}" for of in accuracies if "before" in of)
        role, chance = _agreed(ROLES[of["role"]] for _, of in entries), 100 * entries[0][1]["chance"]
        rows = [_task_row(run, chance, of["accuracy"]) for run, of in entries]
        groups.append(Group(language_name(code), _note(role, base), rows, chance))
    return dumbbells(groups, " %", least=LEAST_ACCURACY)


def _by_language(
    measured: Sequence[tuple[Run, dict[str, Any]]], only: str | None = None
) -> dict[str, list[tuple[Run, dict[str, Any]]]]:
    """Each language with the runs that have it (in this role) and what they measured, in the order of roles."""
    found: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    for role in ROLES if only is None else [only]:
        for code in sorted({code for _, of in measured for code, entry in of.items() if entry["role"] == role}):
            found.setdefault(code, [(run, of[code]) for run, of in measured if _has(of, code, only)])
    return found


def _has(of: dict[str, Any], code: str, role: str | None) -> bool:
    return code in of and role in (None, of[code]["role"])


def _agreed(texts: Iterable[str]) -> str:
    """What all say; nothing where they differ."""
    said = set(texts)
    return said.pop() if len(said) == 1 else ""


def _note(*parts: str) -> str:
    return " · ".join(filter(None, parts))


def _code(code: str) -> str:
    """What stands beside the name of a language: nothing where that is its code already."""
    return "" if language_name(code) == code else escaped(code)


def _bits_row(run: Run, of: dict[str, Any]) -> Row:
    percent = 100 / of["before"]
    change, interval = percent * of["delta"], _interval(of, percent)
    hover = (
        f"<b>{escaped(run.label)}</b><br>{of['before']:.4f} → {of['after']:.4f} bits per byte"
        f"<br>{signed(change)} %{_said(interval, ' %')}"
    )
    lost = interval is not None and interval[0] > 0
    return Row(run, 0.0, 0.0, change, interval, lost, f"{of['after']:.3f}", f"{signed(change)} %", hover)


def _task_row(run: Run, chance: float, of: dict[str, Any]) -> Row:
    after = 100 * of["after"]
    if "before" not in of:
        return _plain_row(run, chance, after, "% right", 1)
    before, delta, interval = 100 * of["before"], 100 * of["delta"], _interval(of, 100)
    hover = (
        f"<b>{escaped(run.label)}</b><br>{before:.1f} → {after:.1f} % right"
        f"<br>{signed(delta)} points{_said(interval, '')}"
    )
    around = interval and (before + interval[0], before + interval[1])
    lost = interval is not None and interval[1] < 0
    return Row(run, before, before, after, around, lost, f"{after:.1f}", signed(delta), hover)


def _interval(of: dict[str, Any], scale: float) -> tuple[float, float] | None:
    """Of the change, where it was measured on more than one document or question."""
    ends = of.get("ci95")
    return (scale * ends[0], scale * ends[1]) if ends else None


def _said(interval: tuple[float, float] | None, unit: str) -> str:
    return f", 95 %: {signed(interval[0])} to {signed(interval[1])}{unit}" if interval else ""


def _plain_row(run: Run, start: float, after: float, unit: str, digits: int) -> Row:
    hover = f"<b>{escaped(run.label)}</b><br>{after:.{digits + 1}f} {unit}"
    return Row(run, start, None, after, None, False, f"{after:.{digits}f}", "", hover)
