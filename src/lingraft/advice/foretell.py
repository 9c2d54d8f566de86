"""Foretell what a run will learn and forget, from a rehearsal on a twentieth of its tokens.

A rehearsal is the same recipe with `SHARE` of its tokens, in smaller steps where there would be few. The final figure
y (learning, or forgetting) is that of a straight line through earlier runs of the method, whose rehearsals had x:

    y = a + b x,   y ± t s sqrt(1 + 1 / n + (x - mean x)^2 / sum (x_i - mean x)^2)

with least squares over the n runs of `rehearsals.json`, s the deviation of their residuals with n - 2 degrees of
freedom, and t Student's for 95 %. A rehearsal unlike those runs has a wide interval.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lingraft.corpus.formats import as_list, text_bytes
from lingraft.corpus.read import find_files
from lingraft.errors import UserError
from lingraft.evaluation.student_t import student_t
from lingraft.pipeline.run import run_recipe
from lingraft.recipe import Recipe, recipe_yaml
from lingraft.recipe.starter import BYTES_PER_TOKEN

logger = logging.getLogger(__name__)

SHARE = 0.05
"""Of the tokens of each source."""
STEPS = 32
"""Of a rehearsal at least, where its tokens allow it with one sequence a step."""
FEWEST_RUNS = 4
"""Of a method, for a line and an interval about it."""
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

    method: str
    rehearsal: Mapping[str, float]
    """`learning` and `forgetting`, where the recipe has such languages."""
    final: Mapping[str, float]
    run: str
    """What it was: the base, the languages, tokens and seed."""


@cache
def known_runs() -> tuple[Rehearsed, ...]:
    """The runs that were rehearsed and then made: `benchmarks/foretold.py` writes them."""
    stored = json.loads((files("lingraft.advice") / "rehearsals.json").read_text("utf-8"))
    return tuple(Rehearsed(**run) for run in stored)


def foretell(rehearsal: Mapping[str, float], method: str, runs: Sequence[Rehearsed]) -> dict[str, Foretold]:
    """Learning and forgetting of the run that was rehearsed; empty where too few runs of its method are known."""
    found = {}
    for figure in FIGURES:
        pairs = [
            (run.rehearsal[figure], run.final[figure])
            for run in runs
            if run.method == method and figure in run.rehearsal and figure in run.final
        ]
        if figure in rehearsal and len(pairs) >= FEWEST_RUNS:
            found[figure] = _on_line(rehearsal[figure], *np.array(pairs).T)
    return found


def _on_line(x: float, xs: Any, ys: Any) -> Foretold:
    """The value of the least-squares line at x, and the interval of a single value there."""
    count, middle = len(xs), xs.mean()
    spread = float(((xs - middle) ** 2).sum())
    slope = float(((xs - middle) * (ys - ys.mean())).sum()) / spread if spread else 0.0
    expected = float(ys.mean() + slope * (x - middle))
    rest = ys - ys.mean() - slope * (xs - middle)
    deviation = float(np.sqrt((rest**2).sum() / (count - 2)))
    away = (x - middle) ** 2 / spread if spread else 0.0
    half = student_t(count - 2) * deviation * float(np.sqrt(1 + 1 / count + away))
    return Foretold(expected, expected - half, expected + half)


def rehearse(recipe: Recipe, folder: Path | str) -> dict[str, Any]:
    """Run the rehearsal of a recipe in a folder; `learning`, `forgetting` and its `seconds`, and what they foretell.

    The run itself takes the measurement of the base and the split from there where it is given as `beside`.

    Raises:
        UserError: a stage of instructions, or a source whose size is not known.
    """
    started = time.monotonic()
    results = run_recipe(rehearsal_of(recipe), folder)
    rehearsal = {figure: results[figure] for figure in FIGURES if figure in results}
    (*_, stage) = recipe.stages.values()
    foretold = foretell(rehearsal, stage.method.name, known_runs())
    return {
        "share": SHARE,
        "seconds": time.monotonic() - started,
        "method": stage.method.name,
        "runs": sum(run.method == stage.method.name for run in known_runs()),
        "rehearsal": rehearsal,
        "foretold": {figure: vars(of) for figure, of in foretold.items()},
    }


def rehearsal_of(recipe: Recipe) -> dict[str, Any]:
    """The recipe of the rehearsal, as plain values.

    Raises:
        UserError: as `rehearse`.
    """
    values: dict[str, Any] = yaml.safe_load(recipe_yaml(recipe))
    for name, stage in recipe.stages.items():
        own = values if recipe.is_short else values["stages"][name]
        if stage.instructions:
            raise UserError("a stage of instructions cannot be rehearsed; rehearse a recipe that trains on text alone")
        budget = 0
        for entry, given in zip(stage.corpus, own["corpus"], strict=True):
            if entry.share is not None:  # it follows from the others
                continue
            given["tokens"] = max(1, round(SHARE * (entry.tokens or _tokens(as_list(getattr(entry, "files", None))))))
            given["max_epochs"] = 1
            budget += given["tokens"]
        training = own["training"]
        accumulated = int(training.get("gradient_accumulation_steps", 1))
        most = max(1, budget // (STEPS * recipe.length * accumulated))
        training["per_device_train_batch_size"] = min(int(training["per_device_train_batch_size"]), most)
    values["evaluation"] = {**values.get("evaluation", {}), "num_samples": 0, "suites": [], "tasks": {}}
    return values


def _tokens(patterns: Sequence[str]) -> int:
    """About how many tokens files have.

    Raises:
        UserError: there are no files.
    """
    if not patterns:
        raise UserError("a source without 'tokens' that is no file cannot be rehearsed; give it a budget of tokens")
    return sum(text_bytes(path) for path in find_files(*patterns)) // BYTES_PER_TOKEN


def rehearsal_text(found: Mapping[str, Any]) -> list[str]:
    """The rehearsal for a terminal."""
    shown = ", ".join(f"{figure} {100 * of:+.1f} %" for figure, of in found["rehearsal"].items())
    lines = [f"rehearsed on {found['share']:.0%} of the tokens in {found['seconds']:.0f} s: {shown}"]
    for figure, of in found["foretold"].items():
        interval = f"{100 * of['low']:+.1f} to {100 * of['high']:+.1f}"
        lines.append(f"foretold: {figure} {100 * of['expected']:+.1f} % ({interval}, 95 %)")
    known = f"{found['runs']} runs of {found['method']} that were rehearsed and then made"
    if found["foretold"]:
        lines.append(f"from {known} (docs/results.md)")
    else:
        lines.append(f"nothing is foretold: there are {known}, too few for a line")
    return lines
