"""What the page shows of one run by itself."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from lingraft.report.figures import Figure, curves
from lingraft.report.read import Run

GROUP_TITLES = {
    "embeddings": "embeddings",
    "first": "first layers",
    "middle": "middle layers",
    "last": "last layers",
    "final_norm": "final norm",
    "head": "head",
    "outside": "outside the language model",
}
DRAWN_POINTS = 800
"""Of a line; a long log is thinned out to about so many."""


def section(run: Run) -> dict[str, Any]:
    """All of one run, where a part that its folder lacks is empty."""
    origin = run.origin
    method, instruct = origin.get("method", {}), run.results.get("instruct")
    return {
        "run": run,
        "settings": {key: _plain(value) for key, value in method.items() if key != "name" and value is not None},
        "after": [_step(step) for step in origin.get("after", [])],
        "languages": _languages(run.languages),
        "instruct": instruct and {**instruct, "languages": _languages(instruct["languages"])},
        "tasks": {name: of for name, of in run.tasks.items() if "forgetting" in of or "learning" in of},
        "groups": _groups(origin.get("weights", {})),
        "stack": [_part(part) for part in reversed(origin.get("stack") or [])],
        "corpus": origin.get("corpus", []),
        "curves": _curves(run),
        "samples": run.results.get("samples") or [],
        "export": origin.get("export", {}),
        "versions": origin.get("versions", {}),
        "steps": origin.get("steps", run.training.get("steps")),
        "seconds": run.training.get("seconds", origin.get("seconds_since_last_start")),
    }


def _plain(value: Any) -> str:
    """A setting as a person says it."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _step(step: dict[str, Any]) -> str:
    """A step of `after:` in words: verb, models, numbers."""
    return ", ".join(f"{key} {_said(value)}" for key, value in step.items())


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    return " and ".join(value) if isinstance(value, list) else str(value)


def _languages(measured: dict[str, Any]) -> list[dict[str, Any]]:
    return [_language(code, entry) for code, entry in measured.items()]


def _language(code: str, entry: dict[str, Any]) -> dict[str, Any]:
    bits = entry["bits_per_byte"]
    change = bits["after"] / bits["before"] - 1 if bits.get("before") else None
    return {"perplexity": {}, **entry, "code": code, "change": change}


def _groups(weights: dict[str, Any]) -> list[dict[str, Any]]:
    """Per layer group: weights of the base, weights that trained, and their share of the group."""
    trained = weights.get("trained", {})
    return [
        {
            "title": GROUP_TITLES.get(group, group),
            "base": size,
            "trained": trained.get(group, 0),
            "share": min(1.0, trained.get(group, 0) / size) if size else 0.0,
        }
        for group, size in weights.get("base", {}).items()
    ]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """A part of the model's stack, with what was done to it in words and as a class of `page.css`."""
    states = [
        (part["in_full"] >= part["weights"] > 0, "full", "trained in full"),
        (0 < part["in_full"] < part["weights"], "some", "trained in part"),
        (part["in_adapters"] > 0, "adapters", "LoRA adapters"),
    ]
    held = [(look, words) for is_so, look, words in states if is_so] or [("frozen", "frozen")]
    return {**part, "look": " ".join(look for look, _ in held), "state": " and ".join(words for _, words in held)}


def _curves(run: Run) -> dict[str, Figure]:
    """Training and validation loss over steps, per language where the log has them."""
    log = run.training.get("log") or []
    training = _lines(log, "loss_", "") or {"all": _line(log, "loss")}
    validation = _lines(log, "eval_", "_loss")
    shown = [*run.languages, *training, *validation]
    order = list(dict.fromkeys(shown))
    drawn = {"training loss": training, "validation loss": validation}
    return {name: curves(lines, order) for name, lines in drawn.items() if any(lines.values())}


def _lines(log: Sequence[dict[str, Any]], prefix: str, suffix: str) -> dict[str, list[tuple[float, float]]]:
    """A line for each `<prefix><language><suffix>` in the log."""
    keys = [
        key
        for entry in log
        for key in entry
        if len(key) > len(prefix + suffix) and key.startswith(prefix) and key.endswith(suffix)
    ]
    inner = {key: key.removeprefix(prefix).removesuffix(suffix) for key in dict.fromkeys(keys)}
    return {code: _line(log, key) for key, code in sorted(inner.items())}


def _line(log: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    line = [(entry["step"], entry[key]) for entry in log if key in entry and "step" in entry]
    return line[:: ceil(len(line) / DRAWN_POINTS) or 1]
