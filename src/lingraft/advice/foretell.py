"""Foretell what a run will learn and forget, from a rehearsal on a twentieth of its tokens.

A rehearsal is the same recipe with `SHARE` of its tokens, in smaller steps where there would be few. The final figure
y (learning, or forgetting) is that of a straight line through earlier runs of the same kind, whose rehearsals had x:

    y = a + b x,   y ± t s sqrt(1 + 1 / n + (x - mean x)^2 / sum (x_i - mean x)^2)

with least squares over the n runs of `rehearsals.json`, s the deviation of their residuals with n - 2 degrees of
freedom, and t Student's for 95 %. The interval holds for runs that are drawn as those were: on another base it is a
guess, and what is printed says on which bases they were.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lingraft.errors import OutputError, UserError
from lingraft.evaluation.student_t import student_t
from lingraft.pipeline.plan import make_plan
from lingraft.pipeline.run import run_recipe
from lingraft.recipe import Recipe, load_recipe, recipe_yaml

SHARE = 0.05
"""Of the tokens of each source."""
STEPS = 32
"""Of a rehearsal at least, where its tokens allow it with one sequence a step."""
FEWEST_RUNS = 4
"""Of a kind, for a line and an interval about it."""
FIGURES = ("learning", "forgetting")


@dataclass(frozen=True)
class Foretold:
    """A final figure, as a share of the base's bits per byte."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Rehearsed:
    """A rehearsal, and the run that it was of."""

    kind: str
    """As of `kind_of`."""
    rehearsal: Mapping[str, float]
    """`learning` and `forgetting`, where the recipe has such languages."""
    final: Mapping[str, float]
    base: str
    run: str
    """What it was: languages, tokens and seed."""


def kind_of(recipe: Recipe) -> str | None:
    """The kind of a run, as far as its line depends on it; None of a recipe with several stages."""
    if not recipe.is_short:
        return None
    stage, retained = recipe.only, recipe.languages.retained
    beside = {
        "self-generated text": stage.replay,
        "old text": any(code in retained for entry in stage.corpus for code in entry.languages),
        "penalties": stage.penalties.given,
        "averaging": stage.averaging,
        "new tokens": recipe.vocabulary,
        "merge": recipe.merge,
    }
    given = ", ".join(name for name, is_set in beside.items() if is_set)
    return f"{stage.method.name} with {given}" if given else stage.method.name


@cache
def known_runs() -> tuple[Rehearsed, ...]:
    """The runs that were rehearsed and then made: `benchmarks/foretold.py` writes them."""
    stored = json.loads((files("lingraft.advice") / "rehearsals.json").read_text("utf-8"))
    return tuple(Rehearsed(**run) for run in stored)


def foretell(rehearsal: Mapping[str, float], kind: str | None, runs: Sequence[Rehearsed]) -> dict[str, Foretold]:
    """Learning and forgetting of the run that was rehearsed; empty where too few runs of its kind are known."""
    found = {}
    for figure in FIGURES:
        pairs = [
            (run.rehearsal[figure], run.final[figure])
            for run in runs
            if run.kind == kind and figure in run.rehearsal and figure in run.final
        ]
        if figure in rehearsal and len({x for x, _ in pairs}) >= FEWEST_RUNS:
            found[figure] = _on_line(rehearsal[figure], *np.array(pairs).T)
    return found


def _on_line(x: float, xs: Any, ys: Any) -> Foretold:
    """The value of the least-squares line at x, and the interval of a single value there."""
    count, middle = len(xs), xs.mean()
    spread = float(((xs - middle) ** 2).sum())
    slope = float(((xs - middle) * (ys - ys.mean())).sum()) / spread
    expected = float(ys.mean() + slope * (x - middle))
    rest = ys - ys.mean() - slope * (xs - middle)
    deviation = float(np.sqrt((rest**2).sum() / (count - 2)))
    away = (x - middle) ** 2 / spread
    half = student_t(count - 2) * deviation * float(np.sqrt(1 + 1 / count + away))
    return Foretold(expected, expected - half, expected + half)


def prepare_rehearsal(recipe: Recipe, folder: Path | str) -> dict[str, Any]:
    """The rehearsal's recipe; refuses a folder that holds anything but this rehearsal.

    Raises:
        OutputError: names the folder.
        UserError: as `rehearsal_of`.
    """
    place, values = Path(folder), rehearsal_of(recipe)
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return values
    file = place / "recipe.resolved.yaml"
    rehearsal = recipe_yaml(load_recipe(values, runs_here=False))
    if not file.is_file() or yaml.safe_load(file.read_text("utf-8")) != yaml.safe_load(rehearsal):
        raise OutputError(f"--rehearse {folder} holds no rehearsal of this recipe; give a new folder")
    return values


def rehearse(recipe: Recipe, values: dict[str, Any], folder: Path | str) -> dict[str, Any]:
    """Run a prepared rehearsal in a folder; `learning`, `forgetting`, its `seconds`, and what they foretell.

    A run that is given the folder as `beside` takes the measurement of the base and the split from there.
    """
    started, kind = time.monotonic(), kind_of(recipe)
    results = run_recipe(values, folder)
    rehearsal = {figure: results[figure] for figure in FIGURES if figure in results}
    runs = [run for run in known_runs() if run.kind == kind]
    return {
        "share": SHARE,
        "seconds": time.monotonic() - started,
        "kind": kind,
        "runs": len(runs),
        "bases": list(dict.fromkeys(run.base for run in runs)),
        "rehearsal": rehearsal,
        "foretold": {figure: vars(of) for figure, of in foretell(rehearsal, kind, runs).items()},
    }


def rehearsal_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe of the rehearsal, as plain values: `SHARE` of the tokens that the plan of each source has.

    Raises:
        UserError: several stages or instructions, or a source whose size is not known.
    """
    if not recipe.is_short or recipe.only.instructions:
        raise UserError("a recipe of several stages, or of instructions, cannot be rehearsed; give one of text alone")
    stage, values = recipe.only, yaml.safe_load(recipe_yaml(recipe))
    plan, training = make_plan(recipe, stage), values["training"]
    of_steps = int(training.pop("max_steps", -1)) * plan.tokens_per_step  # in place of the text's end
    known = [tokens for tokens in plan.tokens.values() if tokens is not None]
    fewer = min(1.0, of_steps / sum(known)) if of_steps > 0 and known else 1.0
    budget = 0
    for number, (entry, given) in enumerate(zip(stage.corpus, values["corpus"], strict=True)):
        if entry.share is not None:  # it follows from the others
            continue
        tokens = plan.tokens[number]
        if tokens is None:
            raise UserError(f"corpus.{number}: without 'tokens', its size is not known from here; give it a budget")
        given["tokens"], given["max_epochs"] = max(1, round(SHARE * fewer * tokens)), 1
        budget += given["tokens"]
    training["gradient_accumulation_steps"] = 1
    batch = int(stage.training["per_device_train_batch_size"])
    training["per_device_train_batch_size"] = max(1, min(batch, budget // (STEPS * recipe.length)))
    values["evaluation"] = {**values.get("evaluation", {}), "num_samples": 0, "suites": [], "tasks": {}}
    return dict(values)


def rehearsal_text(found: Mapping[str, Any]) -> list[str]:
    """The rehearsal for a terminal."""
    shown = ", ".join(f"{figure} {100 * of:+.1f} %" for figure, of in found["rehearsal"].items())
    lines = [f"rehearsed on {found['share']:.0%} of the tokens in {found['seconds']:.0f} s: {shown}"]
    for figure, of in found["foretold"].items():
        interval = f"{100 * of['low']:+.1f} to {100 * of['high']:+.1f}"
        lines.append(f"foretold: {figure} {100 * of['expected']:+.1f} % ({interval}, 95 % of runs like those)")
    known = f"{found['runs']} runs of {found['kind']} that were rehearsed and then made"
    if found["foretold"]:
        lines.append(f"from {known}, on {', '.join(found['bases'])}; on another base it is a guess (docs/results.md)")
    else:
        lines.append(f"nothing is foretold: there are {known}, too few for a line")
    return lines
