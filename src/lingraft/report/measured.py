"""What was measured, language by language, as groups of rows to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lingraft.report.dumbbells import Group, Row, dumbbells
from lingraft.report.figures import Figure, escaped, signed
from lingraft.report.read import ROLES, Run, by_role, language_name

LEAST_CHANGE, LEAST_ACCURACY = 5.0, 20.0
"""What an axis spans at least, in percent, so that a little looks little."""


def bits(runs: Sequence[Run], role: str) -> Figure | None:
    """The change in bits per byte, in percent of the base, so that all languages start from one line.

    `None` where no run has a language of this role measured against a base.
    """
    groups = []
    for code in _codes([run.languages for run in runs], role):
        entries = [(run, run.languages[code]["bits_per_byte"]) for run in runs if code in run.languages]
        against = [(run, of) for run, of in entries if "before" in of]
        if against:
            bases = {f"{of['before']:.3f}" for _, of in against}
            base = f" · base {bases.pop()}" if len(bases) == 1 else ""
            groups.append(Group(language_name(code), escaped(code) + base, [_bits_row(*entry) for entry in against]))
    return dumbbells(groups, " %", 0.0, LEAST_CHANGE) if groups else None


def bits_alone(runs: Sequence[Run]) -> Figure | None:
    """Bits per byte of models that were measured without a base."""
    groups = []
    for code in _codes([run.languages for run in runs]):
        entries = [(run, run.languages[code]["bits_per_byte"]) for run in runs if code in run.languages]
        rows = [_plain_row(run, 0.0, of["after"], "bits per byte", 3) for run, of in entries if "before" not in of]
        if rows:
            groups.append(Group(language_name(code), escaped(code), rows))
    return dumbbells(groups, "", 0.0) if groups else None


def task(runs: Sequence[Run], name: str) -> Figure:
    """Accuracies of one task, in percent, with the line of chance."""
    groups = []
    entries_of = {run.anchor: run.tasks.get(name, {}).get("languages", {}) for run in runs}
    for code in _codes(list(entries_of.values())):
        entries = [(run, entries_of[run.anchor][code]) for run in runs if code in entries_of[run.anchor]]
        before = {f"{100 * of['accuracy']['before']:.1f}" for _, of in entries if "before" in of["accuracy"]}
        base = f" · base {before.pop()}" if len(before) == 1 else ""
        role, chance = ROLES[entries[0][1]["role"]], 100 * entries[0][1]["chance"]
        rows = [_task_row(run, chance, of["accuracy"]) for run, of in entries]
        groups.append(Group(language_name(code), role + base, rows, chance))
    return dumbbells(groups, " %", least=LEAST_ACCURACY)


def _codes(measured: Sequence[dict[str, Any]], role: str | None = None) -> list[str]:
    """Every language that one of the runs has (in this role), in the order of roles."""
    together = by_role({code: entry for languages in reversed(measured) for code, entry in languages.items()})
    return [code for code, entry in together.items() if role in (None, entry["role"])]


def _bits_row(run: Run, of: dict[str, Any]) -> Row:
    percent = 100 / of["before"]
    change, (low, high) = percent * of["delta"], (percent * of["ci95"][0], percent * of["ci95"][1])
    hover = (
        f"<b>{escaped(run.label)}</b><br>{of['before']:.4f} → {of['after']:.4f} bits per byte"
        f"<br>{signed(change)} %, 95 %: {signed(low)} to {signed(high)} %"
    )
    return Row(run, 0.0, 0.0, change, (low, high), low > 0, f"{of['after']:.3f}", f"{signed(change)} %", hover)


def _task_row(run: Run, chance: float, of: dict[str, Any]) -> Row:
    after = 100 * of["after"]
    if "before" not in of:
        return _plain_row(run, chance, after, "% right", 1)
    before, delta, low, high = (100 * x for x in (of["before"], of["delta"], *of["ci95"]))
    hover = (
        f"<b>{escaped(run.label)}</b><br>{before:.1f} → {after:.1f} % right"
        f"<br>{signed(delta)} points, 95 %: {signed(low)} to {signed(high)}"
    )
    interval, change = (before + low, before + high), signed(delta)
    return Row(run, before, before, after, interval, high < 0, f"{after:.1f}", change, hover)


def _plain_row(run: Run, start: float, after: float, unit: str, digits: int) -> Row:
    hover = f"<b>{escaped(run.label)}</b><br>{after:.{digits + 1}f} {unit}"
    return Row(run, start, None, after, (after, after), False, f"{after:.{digits}f}", "", hover)
