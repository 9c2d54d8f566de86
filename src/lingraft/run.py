"""The whole product on one page: a base and a recipe in, a grafted model and its proof out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState

from lingraft.artefacts import json_text, read_json, stage_fingerprint
from lingraft.checkpoints.names import public_name
from lingraft.checkpoints.read import find_model, model_fingerprint
from lingraft.evaluation.compare import bits_and_sums, compare
from lingraft.evaluation.measure import measured_with, read_measurement
from lingraft.evaluation.questions import read_tasks
from lingraft.output_folder import claimed, publish_folder, publish_text, run_target
from lingraft.plan import whole_plan
from lingraft.provenance import provenance
from lingraft.recipe import Recipe, load_recipe
from lingraft.report import draw_page
from lingraft.stages import folder_of, text
from lingraft.stages import model as models
from lingraft.stages.check import check_models
from lingraft.stages.choice import choose, chosen_steps, warn_of_new_words
from lingraft.stages.held_out import hold_out_text
from lingraft.stages.inputs import Inputs
from lingraft.stages.instructions import read_instructions
from lingraft.stages.overlap import leave_out_overlap
from lingraft.stages.training import Trained, adapt, check_takes_a_step, training_log
from lingraft.stages.vocabulary import extend_vocabulary, measure_fertility
from lingraft.stages.written import write_replay

logger = logging.getLogger(__name__)

LONGEST_STAGE = timedelta(days=7)
"""How long other processes wait while the first one works alone."""


def run(
    recipe: Path | str | dict[str, Any],
    out: Path | str,
    overrides: Sequence[str] = (),
    beside: Sequence[Path | str] = (),
) -> dict[str, Any]:
    """Graft languages onto a base as a recipe says; returns what `results.json` holds.

    `out` receives `model/`, `adapter/` where the method has one, `results.json`, `report.html`,
    `recipe.resolved.yaml` and `lingraft.json`; `work/` keeps the artefacts of the stages. Started
    again with the same recipe, a run goes on where it stopped. `beside`: folders of other runs, from which the
    measurement of the base is taken where it is of the same text.

    Raises:
        RecipeError: all that is wrong with the recipe.
        OutputError: `out` holds something else.
        CorpusError, ModelError, TrainingError: what is wrong with text, base or settings.
    """
    PartialState(timeout=LONGEST_STAGE)
    resolved = load_recipe(recipe, overrides)
    out = run_target(out, resolved)
    with claimed(out, resolved):
        results = _run(resolved, out, out / "work", [Path(other) / "work" for other in beside])
    logger.info("done: %s", out)
    return results


def _run(recipe: Recipe, out: Path, work: Path, others: Sequence[Path]) -> dict[str, Any]:
    base, roles, stages = find_model(recipe.base), recipe.languages.roles, recipe.expanded
    inputs = Inputs(recipe, work)
    check_models(recipe)

    plan = whole_plan(recipe, with_memory_left=False)
    tasks = read_tasks(recipe.evaluation.tasks)
    measured = text.read_measured_text(recipe, work)
    tables = text.tokenize_corpora(recipe, base, work)
    heldout = hold_out_text(recipe, tables, measured, tasks, work)
    leave_out_overlap(recipe, base, tables, heldout)
    start = extend_vocabulary(recipe, base, tables, work)
    if start != base:
        models.check_after(recipe, base, start)
        tables = text.tokenize_corpora(recipe, start, work, "corpus-in-new-words")
        leave_out_overlap(recipe, start, tables, heldout)
    blocks = {
        name: _learnable(stage, start, tables[name], heldout, folder_of(work, name)) for name, stage in stages.items()
    }
    on = text.evaluation_set(recipe, heldout, tasks)
    inputs.check_text()
    fertility = measure_fertility(on.texts, base, start)

    earlier = [other / "before" for other in others]
    before = models.measure_model(recipe, base, model_fingerprint(base), on, work / "before", earlier)
    instruct = models.measure_instruct(recipe, on, work / "instruct")
    on_the_way: dict[str, Path] = {}
    if start != base:
        mark = model_fingerprint(start)
        on_the_way["new words"] = models.measure_model(recipe, start, mark, on.texts_alone, work / "measured")
    model, trainings = start, dict[str, Trained]()
    for name, stage in stages.items():
        folder = folder_of(work, name)
        written = write_replay(stage, base, blocks[name], folder)
        adapted = adapt(stage, model, blocks[name], written, folder)
        trainings[name] = Trained(stage, tables[name], blocks[name], written, adapted)
        made = models.combine(stage.after, base, model, adapted, folder)
        model = made / "model"
        if recipe.stages:
            mark = stage_fingerprint(made)
            on_the_way[name] = models.measure_model(recipe, model, mark, on.texts_alone, folder / "measured")

    steps = [
        {"name": name, **bits_and_sums(read_measurement(of), read_measurement(before), roles)}
        for name, of in on_the_way.items()
    ]
    if start != base:
        warn_of_new_words(recipe, steps[0].get("forgetting"))
    choice = choose(recipe, start, made, blocks[name], work)
    combined = models.combine(chosen_steps(recipe, choice), base, start, made, work)
    exported = models.export(recipe, base, combined, work)
    unrounded = models.measure_model(
        recipe, combined / "model", stage_fingerprint(combined), on.texts_alone, work / "unrounded"
    )
    after = models.measure_model(recipe, exported / "model", stage_fingerprint(exported), on, work / "after")

    results = {
        "schema": 1,
        "base": public_name(recipe.base),
        "model": "model",
        "measured": measured_with(base, recipe.length),
        **compare(on, read_measurement(after), read_measurement(before), roles),
        "fertility": fertility,
        "overlap": _overlap(trainings),
    }
    if steps:
        results["steps"] = steps
    if instruct and recipe.instruct:  # what the instruct model lost beside what the base lost
        against = compare(on, read_measurement(after), read_measurement(instruct), roles)
        results["instruct"] = {"base": public_name(recipe.instruct), **against}
    if choice:
        results["forget_at_most"] = read_json(choice / "choice.json")
    words = None
    if start != base:
        words = {**read_json(start.parent / "vocabulary.json"), "fingerprint": stage_fingerprint(start.parent)}
    origin = provenance(recipe, base, words, trainings, exported, unrounded, plan)
    inputs.check()
    if PartialState().is_main_process:
        publish_folder(exported / "model", out, "model", {"lingraft.json": json_text(origin)}, moved=True)
        if start == base and not recipe.stages:  # an adapter of a model on the way would load on nothing
            publish_folder(adapted / "adapter", out, "adapter", {"lingraft.json": json_text(origin)})
        publish_text(out, "lingraft.json", json_text(origin))
        publish_text(out, "training.json", json_text(training_log(trainings)))
        publish_text(out, "results.json", json_text(results))
        publish_text(out, "report.html", draw_page([out]))
    return results


def _overlap(trainings: Mapping[str, Trained]) -> list[dict[str, Any]]:
    """By stage and entry of its text: the documents that shared text with what is measured, and did not train."""
    return [
        {**({"stage": name} if name else {}), "language": entry["language"], **entry["overlap"]}
        for name, of in trainings.items()
        for entry in read_json(of.text / "mix.json")["entries"]
    ]


def _learnable(stage: Recipe, model: Path, tables: Sequence[Path], heldout: Path, folder: Path) -> Path:
    """What a stage trains on, in the tokens of a model: blocks of text, or instructions."""
    if stage.instructions:
        blocks = read_instructions(stage, model, heldout, folder)
    else:
        blocks = text.pack_corpora(stage, model, tables, heldout, folder)
    check_takes_a_step(stage, blocks)
    return blocks
