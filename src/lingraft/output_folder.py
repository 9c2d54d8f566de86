"""The folder of a run: whose it is, who works in it, and what is laid out in it at the end."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from lingraft.artefacts import check_folder_target, locked, new_folder, records, write_text
from lingraft.errors import OutputError, UserError
from lingraft.recipe import Recipe, recipe_yaml
from lingraft.stages.training import training_began

logger = logging.getLogger(__name__)


@contextmanager
def claimed(out: Path, recipe: Recipe) -> Iterator[None]:
    """Hold the run's folder in the main process, with the recipe that it is of.

    Input that turns out wrong before training began leaves nothing behind in a new folder.
    """
    is_main, was_there, was_run = PartialState().is_main_process, out.exists(), bool(records(out / "work"))
    was_run = was_run or (out / "recipe.resolved.yaml").exists()
    with ExitStack() as held:
        if is_main:
            check_output(out, recipe)
            held.enter_context(locked(out))
            write_text(out / "recipe.resolved.yaml", recipe_yaml(recipe))
        PartialState().wait_for_everyone()
        try:
            yield
        except UserError:
            if is_main and not was_run and not training_began(out / "work"):
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
    check_folder_target(out)
    previous, names = out / "recipe.resolved.yaml", {path.name for path in out.iterdir()} if out.is_dir() else set()
    was, now = _resolved(previous, recipe), yaml.safe_load(recipe_yaml(recipe))
    if was is None:
        ours = {".lock", previous.name, "work"} if previous.name in names else {".lock"}
        if names - ours and not records(out / "work"):
            raise OutputError(
                f"--out {out} is not empty and not a run's folder (it holds {', '.join(sorted(names)[:3])}); "
                "give a new folder"
            )
        if names - {".lock"}:
            logger.warning("%s: missing or damaged, written again", previous)
        return
    if different := list(_differences(was, now)):
        changes = "; ".join(different)
        raise OutputError(
            f"--out {out} belongs to another recipe ({changes}); give a new folder, or delete this one to start over"
        )


def _resolved(path: Path, recipe: Recipe) -> dict[str, Any] | None:
    """The recipe that a folder is of; None where its file is missing, cut, zeroed, or otherwise damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    is_cut = len(text) < len(recipe_yaml(recipe)) and recipe_yaml(recipe).startswith(text)
    return values if isinstance(values, dict) and all(isinstance(key, str) for key in values) and not is_cut else None


def _differences(was: dict[str, Any], now: dict[str, Any], place: str = "") -> Iterator[str]:
    """Where two recipes differ, key by key, and in the order of their stages."""
    for key in sorted({*was, *now}, key=str):
        there, here = was.get(key), now.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            if key == "stages" and there.keys() == here.keys() and list(there) != list(here):
                yield f"{place}{key}: in the order {', '.join(there)} there, {', '.join(here)} here"
            yield from _differences(there, here, f"{place}{key}.")
        elif there != here:
            yield f"{place}{key}: {there!r} there, {here!r} here"


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
