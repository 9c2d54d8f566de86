"""The whole product on one page: a base and a recipe in, a grafted model and its proof out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState

from lingraft.cache import json_text
from lingraft.checkpoints.names import public_name
from lingraft.checkpoints.read import find_model
from lingraft.evaluation.compare import compare, summarize
from lingraft.evaluation.measure import measured_with, measuring_device
from lingraft.pipeline import text
from lingraft.pipeline.check import check_models, merge_steps_of
from lingraft.pipeline.inputs import Inputs
from lingraft.pipeline.measure import Measured, evaluation_set, measure_model
from lingraft.pipeline.merge import check_merge, export, merged
from lingraft.pipeline.plan import whole_plan
from lingraft.pipeline.provenance import provenance
from lingraft.pipeline.result import StageResult, overlap_of, training_log
from lingraft.pipeline.run_directory import acquire_run_directory, publish_folder, publish_text, run_target
from lingraft.pipeline.scales import select_scales, warn_of_new_tokens
from lingraft.pipeline.self_generated import generate
from lingraft.pipeline.step import Place
from lingraft.pipeline.train import Trainee, adapt
from lingraft.pipeline.values import Model
from lingraft.pipeline.vocabulary import extend_vocabulary, measure_fertility
from lingraft.recipe import Recipe, load_recipe
from lingraft.reporting.page import draw_page

logger = logging.getLogger(__name__)

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
    logger.info("done: %s", out)
    return results


def execute(recipe: Recipe, out: Path, others: Sequence[Path]) -> dict[str, Any]:
    """Every step of a resolved recipe, in order."""
    work, base = out / "work", Model(find_model(recipe.base))
    inputs = Inputs(recipe, work)
    check_models(recipe)
    plan = whole_plan(recipe, with_memory_left=False)

    questions = text.read_questions(recipe)
    corpora = text.read_corpora(recipe, base, work)
    split = text.split(recipe, corpora, questions, work)
    trainable = text.decontaminated(recipe, corpora, split, base)

    start, extended = base, None
    if recipe.vocabulary:
        documents, usable = text.text_to_learn_tokens_on(recipe, corpora, trainable)
        extended = extend_vocabulary(work / "extended", base, documents, usable, recipe.vocabulary, recipe.seed)
        start = extended.model
        check_merge(merge_steps_of(recipe), base.folder, start.folder)
        corpora = text.read_corpora(recipe, start, work, "corpus-in-new-words")
        trainable = text.decontaminated(recipe, corpora, split, start)
    data = {
        name: text.training_data(
            recipe, stage, start, corpora[name], split, text.stage_folder(recipe, work, name), trainable[name]
        )
        for name, stage in recipe.stages.items()
    }
    suites = evaluation_set(split, list(recipe.languages.roles), questions, recipe.evaluation.num_samples)
    inputs.check_text()
    fertility = measure_fertility(suites.texts, base, start)

    def measure(place: Path | Place, model: Model, suites_: Any = suites.texts_alone) -> Measured:
        return measure_model(place, model, suites_, recipe.length, measuring_device())

    before = measure(Place(work / "before", [other / "before" for other in others]), base, suites)
    instruct = measure(work / "instruct", Model(find_model(recipe.instruct)), suites) if recipe.instruct else None
    on_the_way = {"new tokens": measure(work / "measured", start)} if extended else {}

    model, stages = start, list[StageResult]()
    for name, stage in recipe.stages.items():
        folder = text.stage_folder(recipe, work, name)
        generated = generate(
            folder, base, data[name], stage.replay, len(recipe.languages.roles), recipe.length, recipe.seed
        )
        name_of_start = recipe.base if model == base else str(model.folder)
        trainee = Trainee(
            model,
            data[name],
            generated,
            stage,
            recipe.languages,
            recipe.validation.blocks,
            recipe.form_of(name),
            recipe.length,
            recipe.seed,
            name_of_start,
        )
        adapted = adapt(folder, trainee)
        made = merged(folder, stage.merge, adapted, model, base)
        stages.append(
            StageResult(None if recipe.is_short else name, stage, corpora[name], data[name], generated, adapted)
        )
        model = made.model
        if not recipe.is_short:
            on_the_way[name] = measure(folder / "measured", model)

    steps = [
        {"name": name, **summarize(of.measurement, before.measurement, recipe.languages.roles)}
        for name, of in on_the_way.items()
    ]
    scales, after = None, list(recipe.merge)
    if limit := recipe.max_forgetting:
        if extended:
            warn_of_new_tokens(limit, steps[0].get("forgetting"))
        scales = select_scales(
            work / "scales", limit, start, model, stages[-1].data, recipe.languages, measuring_device()
        )
        after = scales.in_place_of_the_limit(after)
    combined = merged(work, after, made, start, base)
    exported = export(work / "exported", combined.model, base, recipe.form)
    unrounded = measure(work / "unrounded", combined.model)
    final = measure(work / "after", exported.model, suites)

    roles = recipe.languages.roles
    results = {
        "schema": 1,
        "base": public_name(recipe.base),
        "model": "model",
        "measured": measured_with(base.folder, recipe.length),
        **compare(suites, final.measurement, before.measurement, roles),
        "fertility": fertility,
        "overlap": overlap_of(stages),
    }
    if steps:
        results["stages"] = steps
    if instruct and recipe.instruct:  # what the instruct model lost beside what the base lost
        against = compare(suites, final.measurement, instruct.measurement, roles)
        results["instruct"] = {"base": public_name(recipe.instruct), **against}
    if scales:
        results["max_forgetting"] = scales.record
    origin = provenance(recipe, base, extended, stages, exported, unrounded, plan)
    inputs.check()
    if PartialState().is_main_process:
        publish_folder(exported.folder / "model", out, "model", {"lingraft.json": json_text(origin)}, moved=True)
        if not extended and recipe.is_short:  # an adapter of a model on the way would load on nothing
            publish_folder(stages[-1].adapted.adapter, out, "adapter", {"lingraft.json": json_text(origin)})
        publish_text(out, "lingraft.json", json_text(origin))
        publish_text(out, "training.json", json_text(training_log(stages)))
        publish_text(out, "results.json", json_text(results))
        publish_text(out, "report.html", draw_page([out]))
    return results
