"""The whole product on one page: a base and a recipe in, a grafted model and its proof out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState

from lingraft.artefacts import read_json, stage_fingerprint, write_json
from lingraft.checkpoints.read import check_model, find_model, model_fingerprint
from lingraft.evaluation.compare import compare
from lingraft.evaluation.measure import measured_with, read_measurement
from lingraft.evaluation.questions import read_tasks
from lingraft.output_folder import claimed, publish
from lingraft.plan import make_plan, plan_text
from lingraft.provenance import provenance
from lingraft.recipe import Recipe, load_recipe
from lingraft.report import report
from lingraft.stages import model as models
from lingraft.stages import text
from lingraft.stages.choice import choose, chosen_steps
from lingraft.stages.written import write_replay, written_record

logger = logging.getLogger(__name__)

LONGEST_STAGE = timedelta(days=7)
"""How long other processes wait while the first one works alone."""


def run(recipe: Path | str | dict[str, Any], out: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Graft languages onto a base as a recipe says; returns what `results.json` holds.

    `out` receives `model/`, `adapter/` where the method has one, `results.json`, `report.html`,
    `recipe.resolved.yaml` and `lingraft.json`; `work/` keeps the artefacts of the stages. Started
    again with the same recipe, a run goes on where it stopped.

    Raises:
        RecipeError: all that is wrong with the recipe.
        OutputError: `out` holds something else.
        CorpusError, ModelError, TrainingError: what is wrong with text, base or settings.
    """
    PartialState(timeout=LONGEST_STAGE)
    out = Path(out)
    resolved = load_recipe(recipe, overrides)
    with claimed(out, resolved):
        results = _run(resolved, out, out / "work")
    logger.info("done: %s", out)
    return results


def _run(recipe: Recipe, out: Path, work: Path) -> dict[str, Any]:
    base = find_model(recipe.base)
    check_model(base)
    models.check_after(recipe, base)

    plan = plan_text(recipe, make_plan(recipe))
    tasks = read_tasks(recipe.evaluation.tasks)
    measured = text.read_measured_text(recipe, work)
    tables = text.tokenize_corpora(recipe, base, work)
    blocks = text.pack_corpora(recipe, base, tables, measured, work)
    written = write_replay(recipe, base, blocks, work)
    on = text.evaluation_set(recipe, blocks, tasks)

    before = models.measure_model(recipe, base, model_fingerprint(base), on, work / "before")
    instruct = models.measure_instruct(recipe, on, work / "instruct")
    adapted = models.adapt(recipe, base, blocks, written, work)
    choice = choose(recipe, base, adapted, blocks, work)
    combined = models.combine(recipe, chosen_steps(recipe, choice), base, adapted, work)
    exported = models.export(recipe, base, combined, work)
    unrounded = models.measure_model(
        recipe, combined / "model", stage_fingerprint(combined), on.texts_alone, work / "unrounded"
    )
    after = models.measure_model(recipe, exported / "model", stage_fingerprint(exported), on, work / "after")

    results = {
        "schema": 1,
        "base": recipe.base,
        "model": "model",
        "measured": measured_with(base, recipe.length),
        **compare(on, read_measurement(after), read_measurement(before), recipe.languages.roles),
    }
    if instruct:  # what the instruct model lost beside what the base lost
        against = compare(on, read_measurement(after), read_measurement(instruct), recipe.languages.roles)
        results["instruct"] = {"base": recipe.instruct, **against}
    if choice:
        results["forget_at_most"] = read_json(choice / "choice.json")
    origin = provenance(
        recipe, base, tables, blocks, adapted, exported, unrounded, written_record(blocks, written), plan
    )
    if PartialState().is_main_process:
        publish(exported / "model", out / "model")
        publish(adapted / "adapter", out / "adapter")
        write_json(out / "model" / "lingraft.json", origin)
        write_json(out / "lingraft.json", origin)
        write_json(out / "training.json", read_json(adapted / "training.json"))
        write_json(out / "results.json", results)
        report([out], out / "report.html")
    return results
