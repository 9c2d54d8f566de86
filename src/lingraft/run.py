"""The whole product on one page: a base and a recipe in, a grafted model and its proof out."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from lingraft.artefacts import check_target, locked, new_folder, stage_fingerprint, write_json, write_text
from lingraft.checkpoints.read import check_model, find_model, model_fingerprint
from lingraft.errors import OutputError, UserError
from lingraft.evaluation.compare import compare
from lingraft.evaluation.measure import measured_with, read_scores
from lingraft.provenance import provenance
from lingraft.recipe import Recipe, load_recipe, recipe_yaml
from lingraft.report import report
from lingraft.stages import model as models
from lingraft.stages import text

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

    measured = text.read_measured_text(recipe, work)
    tables = text.tokenize_corpora(recipe, base, work)
    blocks = text.pack_corpora(recipe, base, tables, measured, work)
    texts = text.measured_texts(recipe, measured, blocks)

    before = models.measure_model(recipe, base, model_fingerprint(base), texts, work / "before")
    adapted = models.adapt(recipe, base, blocks, work)
    exported = models.export(recipe, base, adapted, work)
    unrounded = models.measure_model(recipe, adapted / "model", stage_fingerprint(adapted), texts, work / "unrounded")
    after = models.measure_model(recipe, exported / "model", stage_fingerprint(exported), texts, work / "after")

    results = {
        "schema": 1,
        "base": recipe.base,
        "model": "model",
        "measured": measured_with(base, recipe.length),
        **compare(read_scores(after), read_scores(before), recipe.languages.roles),
    }
    origin = provenance(recipe, base, tables, blocks, adapted, exported, unrounded)
    if PartialState().is_main_process:
        publish(exported / "model", out / "model")
        publish(adapted / "adapter", out / "adapter")
        write_json(out / "model" / "lingraft.json", origin)
        write_json(out / "lingraft.json", origin)
        write_json(out / "results.json", results)
        report([out], out / "report.html")
    return results


@contextmanager
def claimed(out: Path, recipe: Recipe) -> Iterator[None]:
    """Hold the run's folder in the main process, with the recipe that it is of.

    Input that turns out wrong before training began leaves nothing behind in a new folder.
    """
    is_main, was_there, was_run = PartialState().is_main_process, out.exists(), (out / "recipe.resolved.yaml").exists()
    with ExitStack() as held:
        if is_main:
            check_output(out, recipe)
            held.enter_context(locked(out))
            write_text(out / "recipe.resolved.yaml", recipe_yaml(recipe))
        PartialState().wait_for_everyone()
        try:
            yield
        except UserError:
            if is_main and not was_run and not models.training_began(out / "work"):
                _remove_run(out, with_folder=not was_there)
            raise


def _remove_run(out: Path, with_folder: bool) -> None:
    shutil.rmtree(out / "work", ignore_errors=True)
    for name in ("recipe.resolved.yaml", ".lock"):
        (out / name).unlink(missing_ok=True)
    if with_folder:
        out.rmdir()


def check_output(out: Path, recipe: Recipe) -> None:
    """Refuse a folder that holds another recipe's run, or something that is no run.

    Raises:
        OutputError: names the keys in which the recipes differ.
    """
    check_target(out)
    previous = out / "recipe.resolved.yaml"
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out {out} is a file; give a folder")
    if not previous.exists():
        strangers = [path.name for path in out.iterdir() if path.name != ".lock"] if out.is_dir() else []
        if strangers:
            raise OutputError(
                f"--out {out} is not empty and not a run's folder (it holds {', '.join(sorted(strangers)[:3])}); "
                "give a new folder"
            )
        return
    was, now = yaml.safe_load(previous.read_text(encoding="utf-8")), yaml.safe_load(recipe_yaml(recipe))
    different = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
    if different:
        changes = "; ".join(f"{key}: {was.get(key)!r} there, {now.get(key)!r} here" for key in different)
        raise OutputError(
            f"--out {out} belongs to another recipe ({changes}); give a new folder, or delete this one to start over"
        )


def publish(source: Path, target: Path) -> None:
    """Give a stage's folder its public place beside the results; files are linked, not copied twice."""
    if source.is_dir():
        with new_folder(target) as temporary:
            shutil.copytree(source, temporary, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
