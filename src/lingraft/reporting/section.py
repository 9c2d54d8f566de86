"""What the page shows of one run by itself."""

from __future__ import annotations

from typing import Any

from lingraft.reporting.read import GROUPS, Run
from lingraft.reporting.scale_selection import limit
from lingraft.reporting.stage_results import stage_results
from lingraft.reporting.stages import Stage
from lingraft.reporting.training import gates, losses, pulls


def section(run: Run) -> dict[str, Any]:
    """All of one run, where a part that its folder lacks is empty."""
    origin = run.origin
    instruct = run.results.get("instruct")
    return {
        "run": run,
        "settings": _settings(origin),
        "merge": _merge(origin),
        "vocabulary": origin.get("vocabulary"),
        "languages": _languages(run.languages),
        "step_by_step": stage_results(run),
        "instruct": instruct and {**instruct, "languages": _languages(instruct["languages"])},
        "tasks": {name: of for name, of in run.tasks.items() if "forgetting" in of or "learning" in of},
        "stages": [_stage(run, stage) for stage in run.stages],
        "overlap": run.results.get("overlap") or [],
        "samples": run.results.get("samples") or [],
        "export": origin.get("export", {}),
        "versions": origin.get("versions", {}),
    }


def _stage(run: Run, stage: Stage) -> dict[str, Any]:
    """What trained in a stage and how it went; a limit on forgetting stands in the last stage that has one."""
    origin, training = stage.origin, stage.training
    limited = [of for of in run.stages if any("max_forgetting" in step for step in of.origin.get("merge_steps", []))]
    return {
        "name": stage.name,
        "kind": training.get("kind", ""),
        "method": stage.method,
        "settings": _settings(origin),
        "merge": _merge(origin),
        "groups": _groups(origin.get("weights", {})),
        "stack": [_part(part) for part in reversed(origin.get("stack") or [])],
        "corpus": origin.get("corpus", []),
        "curves": losses(training, run.languages),
        "pulls": pulls(training),
        "gates": gates(training, run.languages),
        "limit": limit(run) if stage is (limited or run.stages)[-1] else None,
        "steps": origin.get("steps", training.get("steps")),
        "best_step": training.get("best_step"),
        "seconds": training.get("seconds"),
    }


def _merge(origin: dict[str, Any]) -> list[str]:
    return [_said(step) for step in origin.get("merge_steps", [])]


def _settings(origin: dict[str, Any]) -> list[str]:
    """Of the method, then what stands beside it: penalties, replay, when it stops, what it is written as."""
    of_method = {key: value for key, value in origin.get("method", {}).items() if key != "name"}
    beside = {
        **{f"penalty {name}": of for name, of in origin.get("penalties", {}).items()},
        **{name.replace("_", " "): origin[name] for name in ("replay", "early_stopping") if origin.get(name)},
    }
    form = origin.get("export", {}).get("form", "plain")
    return [
        *(f"{key} {_plain(value)}" for key, value in of_method.items() if value is not None),
        *(f"{key} {_said(value)}".rstrip() for key, value in beside.items()),
        *([f"exported as {form}"] if form != "plain" else []),
    ]


def _plain(value: Any) -> str:
    """A setting as a person says it."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _said(value: Any) -> str:
    """A value in words; what is not given is not spoken of."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items() if inner not in (None, {}))
    return " and ".join(map(str, value)) if isinstance(value, list) else _plain(value)


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
            "title": GROUPS.get(group, group),
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
        (part["in_adapters"] > 0, "adapters", "adapters"),
    ]
    held = [(look, words) for is_so, look, words in states if is_so] or [("frozen", "frozen")]
    return {**part, "look": " ".join(look for look, _ in held), "state": " and ".join(words for _, words in held)}
