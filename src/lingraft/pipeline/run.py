"""The whole product, from top to bottom: a base and a recipe in; a model with new languages, and its proof, out.

The proof is in the `Results`: what every measured language and task scored before and after.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState

from lingraft.pipeline.chat import generate_chat
from lingraft.pipeline.check import check_models
from lingraft.pipeline.inputs import RecipeFiles
from lingraft.pipeline.measure import build_suites
from lingraft.pipeline.merge import export, merge
from lingraft.pipeline.model_card import files_beside
from lingraft.pipeline.provenance import provenance
from lingraft.pipeline.results import Measured, StageResult, build_results
from lingraft.pipeline.run_directory import acquire_run_directory, publish, run_target
from lingraft.pipeline.scales import merge_steps, select_scales
from lingraft.pipeline.self_generated import generate_replay, generated_overlap
from lingraft.pipeline.step import sharing
from lingraft.pipeline.text import prepare_training, read_text, retokenize, stage_folder
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
    point: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run a recipe in a folder, or go on where it stopped; the arguments are those of `lingraft.run`.

    `point` are values of its keys by path, of one run of a sweep. What the steps of the runs `beside` made of the same
    is copied from there.
    """
    PartialState(timeout=LONGEST_STEP)  # joins the processes that a launcher started
    resolved = load_recipe(recipe, overrides, point=point)
    folder = run_target(out, resolved)
    others = [Path(other) / "work" for other in beside]
    with acquire_run_directory(folder, resolved), sharing(folder / "work", others):
        results = execute(resolved, folder)
    logging.getLogger(__name__).info("done: %s", folder)
    return results.to_json()


def execute(recipe: Recipe, folder: Path) -> Results:
    """Do every step of a resolved recipe, in order; a recipe has at least one stage.

    A step that is given a folder keeps its result there. Run again, it reuses that result where the settings and the
    results that it reads are still the same. A suite tokenizes text with the tokenizer of the model that it measures.
    """
    work = folder / "work"
    files = RecipeFiles(recipe, work)  # the files that the recipe reads, to notice where one changes meanwhile
    check_models(recipe)
    base = Model.load(recipe.base)  # a folder and its fingerprint; its weights are read where they are needed

    # Text: documents that are measured, a selection split (scales are chosen on it), and documents that may train.
    text = read_text(recipe, base, work)
    chat = generate_chat(recipe, base, work)  # what an instruct base asks itself and answers, to be measured; else None
    suites = build_suites(recipe, text, chat)  # what models are scored on; `measure_text` takes the text suites alone

    # Tokens: training starts from the base, or from the base with new tokens, whose tokenizer then serves all stages.
    extended = extend_vocabulary(recipe, base, text, work)  # None where the recipe adds no tokens
    start = extended.model if extended else base
    training_text = retokenize(recipe, text, start, work) if extended else text
    data = {name: prepare_training(recipe, name, training_text, start, work) for name in recipe.stages}
    files.raise_if_text_changed()

    # Scores before training: of the base, of an instruct model that merge steps add to it, of the base with new tokens.
    fertility = measure_fertility(suites.texts, base, start)  # tokens per word of each language
    before = suites.measure(work / "before", base)
    instruct_scores = suites.measure(work / "instruct", Model.load(recipe.instruct)) if recipe.instruct else None
    between = {"new tokens": suites.measure_text(work / "measured", start)} if extended else {}

    # Training, stage by stage, each from the model that the one before it left. Merge steps then combine the weights of
    # the trained model and of earlier ones.
    model, stages = start, list[StageResult]()
    for name, stage in recipe.stages.items():
        stage_work = stage_folder(recipe, work, name)
        generated = generate_replay(recipe, name, base, data[name], chat, stage_work)  # other than what `chat` measures
        adapted = adapt(recipe, name, model, data[name], generated, extended, suites.abilities, stage_work)
        merged = merge(stage_work, stage.merge, adapted, changed_from=model, base=base)  # no steps: `adapted`
        overlap = generated_overlap(stage_work, generated, base, text.split)  # it trains, so the report shows it
        stages.append(StageResult(recipe.shown_name(name), stage, data[name], generated, adapted, merged, overlap))
        model = merged.model
        if recipe.has_named_stages:  # a single stage is measured at the end alone
            between[name] = suites.measure_text(stage_work / "measured", model)

    # The run's merge steps, on all that changed since `start`. A `max_forgetting` step multiplies the change in each
    # layer group (embeddings, parts of the layers) by a scale, so that no more is forgotten than it allows, on the
    # selection split, which all stages share, and in answers of the base to other questions than are measured.
    scales = select_scales(recipe, base, start, model, data[recipe.last].held_out, chat, work)
    final = merge(work, merge_steps(recipe, scales), stages[-1].merged, changed_from=start, base=base)
    exported = export(work / "exported", final.model, base, recipe.form)  # rounded to the base's number type

    # Scores after training, and everything laid out in the run's folder.
    unrounded = suites.measure_text(work / "unrounded", final.model)  # what rounding costs
    after = suites.measure(work / "after", exported.model)
    measured = Measured(before, between, unrounded, after, instruct_scores)
    results = build_results(recipe, base, suites, measured, fertility, stages, scales, text.questions.lacking)
    files.raise_if_changed()
    record = provenance(recipe, base, extended, stages, exported, measured)
    card_files = files_beside(recipe, base.folder, exported.model.folder, results, record)  # a card, a Modelfile
    publish(folder, recipe, exported, stages, results, record, card_files)
    return results
