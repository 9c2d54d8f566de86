"""The log of a stage: losses, regularization and gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from math import ceil
from typing import Any

from lingraft.evaluation import ABILITIES, ALIGNMENT
from lingraft.penalties import PENALTIES
from lingraft.reporting.figures import Figure, curves
from lingraft.reporting.read import GROUPS

DRAWN_POINTS = 800
"""Most points of a line; longer logs are thinned out."""
NOT_LANGUAGES = {"self-generated": "self-generated", "selection": "selection split"}
"""Log entries that are no languages: self-generated text, and the selection split."""
LOCAL = {"local_l1": "local L1", "local_ce": "local cross-entropy"}

Line = list[tuple[float, float]]


def losses(training: Mapping[str, Any], languages: Mapping[str, Any]) -> dict[str, Figure]:
    """Training and validation loss over steps, per language where the log has them, and in-context abilities."""
    log = training.get("log") or []
    training = _lines(log, "loss_", "") or {"all": _line(log, "loss")}
    validation = _lines(log, "eval_", "_loss")
    order = list(dict.fromkeys([*languages, *training, *validation]))
    quiet = [name for name in NOT_LANGUAGES.values() if name in order]
    drawn = {"training loss, nats per token": training, "validation loss, nats per token": validation}
    figures = {name: curves(lines, order, quiet) for name, lines in drawn.items() if any(lines.values())}
    for name, prefix in ABILITIES.items():
        shares = {code: [(step, 100 * share) for step, share in line] for code, line in _lines(log, prefix, "").items()}
        if any(shares.values()):
            unit = "% of up to 32 pairs and all layers" if name == ALIGNMENT else "% of tokens predicted"
            figures[f"{name}, {unit}"] = curves(shares, [*order, *shares], quiet, unit="%")
    return figures


def regularization(stage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Local losses and penalties over steps, as a figure, and where each line starts, is highest and ends."""
    log = stage.get("log") or []
    lines = {title: line for key, title in (LOCAL | _penalty_titles(log)).items() if (line := _line(log, key))}
    if not lines:
        return None
    rows = [(title, (line[0], max(line, key=lambda point: point[1]), line[-1])) for title, line in lines.items()]
    return {"figure": curves(lines, list(lines), unit="", height=260), "rows": rows}


def _penalty_titles(log: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Title of each value that penalties logged: by layer group, in the order of the model, then others."""
    logged = dict.fromkeys(key for entry in log for key in entry)
    titles: dict[str, str] = {}
    for name, penalty in PENALTIES.items():
        parts = [key.removeprefix(f"{name}_") for key in logged if key.startswith(f"{name}_")]
        ordered = [part for part in GROUPS if part in parts] + [part for part in parts if part not in GROUPS]
        titles |= {f"{name}_{part}": f"{penalty.title} {GROUPS.get(part, part)}" for part in ordered}
    return titles


def gates(stage: Mapping[str, Any], languages: Mapping[str, Any]) -> dict[str, Any] | None:
    """Mean gate activations by layer; only learned languages are coloured."""
    found: Mapping[str, list[float]] = stage.get("gates") or {}
    if not found:
        return None
    roles = {code: entry["role"] for code, entry in languages.items()}
    order = [*(code for code in roles if code in found), *(code for code in found if code not in roles)]
    quiet = [code for code in order if roles.get(code) != "learn"]
    lines = {code: list(enumerate(found[code])) for code in order}
    return {
        "figure": curves(lines, order, quiet, across="layer", unit="", height=260),
        "rows": [{"code": code, "role": roles.get(code), **_spread(found[code])} for code in order],
        "layers": list(zip_longest(*(found[code] for code in order))),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": sum(values) / len(values), "least": min(values), "most": max(values)}


def _lines(log: Sequence[dict[str, Any]], prefix: str, suffix: str) -> dict[str, Line]:
    """A line for each `<prefix><language><suffix>` in the log."""
    keys = [
        key
        for entry in log
        for key in entry
        if len(key) > len(prefix + suffix) and key.startswith(prefix) and key.endswith(suffix)
    ]
    inner = {key: key.removeprefix(prefix).removesuffix(suffix) for key in dict.fromkeys(keys)}
    return {NOT_LANGUAGES.get(code, code): _line(log, key) for key, code in sorted(inner.items())}


def _line(log: Sequence[dict[str, Any]], key: str) -> Line:
    line = [(entry["step"], entry[key]) for entry in log if key in entry and "step" in entry]
    return line[:: ceil(len(line) / DRAWN_POINTS) or 1]
