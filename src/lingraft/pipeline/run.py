"""The whole product, read from top to bottom: a base and a recipe in, a grafted model and its proof out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState

from lingraft.pipeline.check import check_models
from lingraft.pipeline.inputs import Inputs
from lingraft.pipeline.measure import build_suites
from lingraft.pipeline.merge import export, merge
from lingraft.pipeline.plan import whole_plan
from lingraft.pipeline.provenance import provenance
from lingraft.pipeline.results import Measured, StageResult, build_results
from lingraft.pipeline.run_directory import acquire_run_directory, publish, run_target
from lingraft.pipeline.scales import keep_within_limit, merge_steps
from lingraft.pipeline.self_generated import generate
from lingraft.pipeline.step import Place
from lingraft.pipeline.text import in_tokens_of, prepare, read_text, stage_folder
from lingraft.pipeline.train import adapt
from lingraft.pipeline.values import Model
from lingraft.pipeline.vocabulary import extend_vocabulary, measure_fertility
from lingraft.recipe import Recipe, load_recipe
from lingraft.schema import Results

LONGEST_STEP = timedelta(days=7)
"""How long other processes wait while the first one works alone."""


def run_recipe(
    recipe: Path | str | dict[str, Any],
    out: Path | str,
    overrides: Sequence[str] = (),
    beside: Sequence[Path | str] = (),
) -> dict[str, Any]:
    """As `lingraft.run`."""
    PartialState(timeout=LONGEST_STEP)
    resolved = load_recipe(recipe, overrides)
    out = run_target(out, resolved)
    with acquire_run_directory(out, resolved):
        results = execute(resolved, out, [Path(other) / "work" for other in beside])
    logging.getLogger(__name__).info("done: %s", out)
    return results.to_json()


def execute(recipe: Recipe, out: Path, others: Sequence[Path] = ()) -> Results:
    """Every step of a resolved recipe, in order; a step works only where its arguments changed since it last did."""
    work, inputs = out / "work", Inputs(recipe, out / "work")
    base = Model.load(recipe.base)
    check_models(recipe)
    plan = whole_plan(recipe, with_memory_left=False)

    text = read_text(recipe, base, work)  # documents, what is held out of them, and what may train
    suites = build_suites(recipe, text)
    extended = extend_vocabulary(recipe, base, text, work)
    start = extended.model if extended else base
    text = in_tokens_of(start, recipe, text, work) if extended else text
    data = {name: prepare(recipe, name, text, start, work) for name in recipe.stages}
    inputs.check_text()

    fertility = measure_fertility(suites.text.texts, base, start)
    before = suites.measure(Place(work / "before", [other / "before" for other in others]), base)
    instruct = suites.measure(work / "instruct", Model.load(recipe.instruct)) if recipe.instruct else None
    on_the_way = {"new tokens": suites.of_text.measure(work / "measured", start)} if extended else {}

    model, stages = start, list[StageResult]()
    for name, stage in recipe.stages.items():
        folder = stage_folder(recipe, work, name)
        generated = generate(recipe, name, base, data[name], work)
        adapted = adapt(recipe, name, model, data[name], generated, work)
        merged = merge(folder, stage.merge, adapted, model, base)
        stages.append(StageResult(None if recipe.is_short else name, stage, data[name], generated, adapted, merged))
        model = merged.model
        if not recipe.is_short:
            on_the_way[name] = suites.of_text.measure(folder / "measured", model)

    scales = keep_within_limit(recipe, start, model, stages[-1].data.held_out, work)
    combined = merge(work, merge_steps(recipe, scales), merged, start, base)
    exported = export(work / "exported", combined.model, base, recipe.form)
    unrounded = suites.of_text.measure(work / "unrounded", combined.model)
    final = suites.measure(work / "after", exported.model)

    measured = Measured(before, on_the_way, unrounded, final, instruct)
    results = build_results(recipe, base, suites, measured, fertility, stages, scales)
    origin = provenance(recipe, base, extended, stages, exported, unrounded, plan)
    inputs.check()
    publish(out, recipe, exported, stages, results, origin)
    return results
