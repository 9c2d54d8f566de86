"""The section of the report on one run."""

from __future__ import annotations

from typing import Any

from lingraft.evaluation import BEGINNING
from lingraft.reporting.read import GROUPS, Run
from lingraft.reporting.scale_selection import limit
from lingraft.reporting.stage_results import stage_results
from lingraft.reporting.stages import Stage
from lingraft.reporting.training import gates, losses, regularization
from lingraft.schema import MUCH_OVERLAP


def section(run: Run) -> dict[str, Any]:
    """The values of one run's section; parts that its folder lacks are empty."""
    origin = run.origin
    instruct = run.results.get("instruct")
    return {
        "run": run,
        "settings": _settings(origin),
        "merge": _merge(origin),
        "vocabulary": origin.get("vocabulary"),
        "languages": _languages(run.languages),
        "is_forgotten": _is_forgotten(run.languages, "bits_per_byte", +1),
        "step_by_step": stage_results(run),
        "instruct": instruct and {**instruct, "languages": _languages(instruct["languages"])},
        "tasks": {
            name: {**results, "is_forgotten": _is_forgotten(results["languages"], "score", -1)}
            for name, results in run.tasks.items()
            if "forgetting" in results or "learning" in results
        },
        "stages": [_stage(run, stage) for stage in run.stages],
        "overlap": run.results.get("overlap") or [],
        "much_overlap": MUCH_OVERLAP,
        "chat": _chat(run.results.get("chat")),
        "samples": run.results.get("samples") or [],
        "export": origin.get("export", {}),
        "versions": origin.get("versions", {}),
    }


def _is_forgotten(languages: dict[str, Any], figure: str, worse: int) -> bool:
    """Whether a retained language is worse beyond chance; `worse` is the sign of a change for the worse."""
    intervals = [of[figure].get("ci95") for of in languages.values() if of["role"] == "retain"]
    return any(min(worse * end for end in interval) > 0 for interval in intervals if interval is not None)


def _chat(chat: dict[str, Any] | None) -> dict[str, Any] | None:
    """Chat, with the answers that were lost first, then those that changed."""
    if chat is None:
        return None

    def is_same(answer: dict[str, Any]) -> bool:
        return bool(answer.get("before", "")[:BEGINNING] == answer["after"][:BEGINNING])

    answers = sorted(chat.get("answers", []), key=lambda answer: (not _is_lost(answer), is_same(answer)))
    return {**chat, "answers": [{**answer, "is_lost": _is_lost(answer)} for answer in answers]}


def _is_lost(answer: dict[str, Any]) -> bool:
    """Whether the base answers right, and the adapted model does not."""
    return bool(answer.get("right_before") and not answer.get("right_after"))


def _stage(run: Run, stage: Stage) -> dict[str, Any]:
    """The values of one stage; scale selection is shown in the last stage that has it."""
    origin, training = stage.origin, stage.training
    limited = [
        other for other in run.stages if any("max_forgetting" in step for step in other.origin.get("merge_steps", []))
    ]
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
        "regularization": regularization(training),
        "gates": gates(training, run.languages),
        "limit": limit(run) if stage is (limited or run.stages)[-1] else None,
        "steps": origin.get("steps", training.get("steps")),
        "best_step": training.get("best_step"),
        "seconds": training.get("seconds"),
    }


def _merge(origin: dict[str, Any]) -> list[str]:
    return [_in_words(step) for step in origin.get("merge_steps", [])]


BESIDE = ("replay", "early_stopping", "averaging")


def _settings(origin: dict[str, Any]) -> list[str]:
    """Settings of the method, then penalties, replay, early stopping, averaging and the export form."""
    of_method = {key: value for key, value in origin.get("method", {}).items() if key != "name"}
    beside = {
        **{f"penalty {name}": penalty for name, penalty in origin.get("penalties", {}).items()},
        **{name.replace("_", " "): origin[name] for name in BESIDE if origin.get(name)},
    }
    form = origin.get("export", {}).get("form", "plain")
    return [
        *(f"{key} {_plain(value)}" for key, value in of_method.items() if value is not None),
        *(f"{key} {_in_words(value)}".rstrip() for key, value in beside.items()),
        *([f"exported as {form}"] if form != "plain" else []),
    ]


def _plain(value: Any) -> str:
    """A setting as text; booleans as yes and no."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _in_words(value: Any) -> str:
    """A value in words; empty settings are left out."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_in_words(inner)}" for key, inner in value.items() if inner not in (None, {}))
    return " and ".join(map(str, value)) if isinstance(value, list) else _plain(value)


def _languages(measured: dict[str, Any]) -> list[dict[str, Any]]:
    return [_language(code, entry) for code, entry in measured.items()]


def _language(code: str, entry: dict[str, Any]) -> dict[str, Any]:
    bits = entry["bits_per_byte"]
    change = bits["after"] / bits["before"] - 1 if bits.get("before") else None
    return {"perplexity": {}, **entry, "code": code, "change": change}


def _groups(weights: dict[str, Any]) -> list[dict[str, Any]]:
    """Per layer group: parameters of the base, trained parameters, and their share."""
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
    """A part of the model's stack, with its state in words and as CSS classes."""
    states = [
        (part["in_full"] >= part["weights"] > 0, "full", "full-rank"),
        (0 < part["in_full"] < part["weights"], "some", "partly full-rank"),
        (part["in_adapters"] > 0, "adapters", "adapters"),
    ]
    applying = [(look, words) for is_so, look, words in states if is_so] or [("frozen", "frozen")]
    return {
        **part,
        "look": " ".join(look for look, _ in applying),
        "state": " and ".join(words for _, words in applying),
    }
