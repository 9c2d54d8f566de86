"""A sweep: every run of it in a folder of its own, what they share made once, and one report of all."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from lingraft.cache import fingerprint, read_json, read_record, write_json, write_text
from lingraft.disk import LOCK, locked
from lingraft.errors import LingraftError, OutputError, RecipeError, UserError
from lingraft.output_paths import folder_target
from lingraft.pipeline.run import run_recipe
from lingraft.recipe import load_recipe
from lingraft.recipe.sweep import SWEEP, Point, Sweep, check_overrides, points_of
from lingraft.recipe.yaml import read_yaml
from lingraft.reporting.sweep import SWEEP_FILE, SweepResults, as_csv, draw_sweep, flat

logger = logging.getLogger(__name__)

DRAWING_TAKES = 60
"""Seconds at most in which another run draws the report."""
BUSY = "another run of the sweep draws its report; start again when it has"


def run_sweep(
    recipe: Path | str | dict[str, Any],
    sweep: Sweep,
    out: Path | str,
    overrides: Sequence[str] = (),
    beside: Sequence[Path | str] = (),
    only: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Run all of a sweep, or those that `only` matches; returns the results by the name of the run.

    Every recipe is loaded before the first one runs. `only` holds names or patterns, with commas between them, so that
    several machines can share a sweep: each writes its own runs into the same folder. Where a run fails, the others go
    on.

    Raises:
        RecipeError: all problems of the first recipe that has any.
        UserError: `only` matches no run, or a run failed.
        OutputError: `out` is of another sweep.
    """
    source = "recipe" if isinstance(recipe, dict) else str(recipe)
    points = points_of(sweep, source)
    chosen = chosen_of(points, only)
    check_recipes(recipe, points if only is None else chosen, overrides)
    if sweep.max_parallel > 1 and (isinstance(recipe, dict) or PartialState().num_processes > 1):
        raise UserError("max_parallel: runs side by side need a recipe in a file, and no torchrun; leave it out")
    folder, version = folder_target(out), _version(recipe, overrides)
    if PartialState().is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        with _waiting_for(folder):
            _write_record(folder, points, version)
    PartialState().wait_for_everyone()
    logger.info("%d runs, %d of them here: %s", len(points), len(chosen), ", ".join(point.name for point in chosen))
    others = [folder / point.name for point in points]
    if sweep.max_parallel > 1 and len(chosen) > 1:
        failed = _run_side_by_side(str(recipe), chosen, folder, overrides, sweep.max_parallel)
    else:
        failed = {}
        for point in chosen:
            logger.info("%s", point.name)
            twins = [*(other for other in others if other.name != point.name), *beside]
            try:
                run_recipe(recipe, folder / point.name, overrides, twins, point.values)
            except (LingraftError, MemoryError, torch.OutOfMemoryError) as error:
                if len(chosen) == 1 or PartialState().num_processes > 1:  # where the others would wait for this one
                    raise
                logger.error("%s: %s", point.name, error)
                failed[point.name] = str(error)
                continue
            _mark_finished(folder, point.name, version)
            if point is not chosen[-1]:
                _draw_or_warn(folder)
    write_sweep_report(folder)
    if failed:
        names = ", ".join(failed)
        raise UserError(f"{len(failed)} of {len(chosen)} runs failed: {names}; start again to go on with them")
    return {point.name: read_json(folder / point.name / "results.json") for point in chosen}


def _draw_or_warn(folder: Path) -> None:
    """Draw the report; the runs that are left matter more than that it fails."""
    try:
        write_sweep_report(folder)
    except LingraftError as error:
        logger.warning("the report is not drawn: %s", error)


def chosen_of(points: Sequence[Point], only: str | None) -> list[Point]:
    """The runs that `only` matches.

    Raises:
        UserError: a name or pattern matches none.
    """
    patterns = ["*"] if only is None else only.split(",")
    for pattern in patterns:
        if not any(fnmatchcase(point.name, pattern) for point in points):
            names = ", ".join(point.name for point in points)
            raise UserError(f"--only {only}: no run is called '{pattern}'; they are {names}")
    return [point for point in points if any(fnmatchcase(point.name, pattern) for pattern in patterns)]


def check_recipes(recipe: Path | str | dict[str, Any], points: Sequence[Point], overrides: Sequence[str]) -> None:
    """Load the recipe of each run.

    Raises:
        RecipeError: all problems of the first one that has any.
    """
    source = "recipe" if isinstance(recipe, dict) else str(recipe)
    check_overrides(recipe if isinstance(recipe, dict) else read_yaml(Path(recipe)), points, overrides)
    for point in points:
        try:
            load_recipe(recipe, overrides, point=point.values)
        except RecipeError as error:
            raise RecipeError(f"{source}, run '{point.name}'", error.problems) from None


def write_sweep_report(folder: Path) -> None:
    """Draw all runs of a sweep that are finished: `report.html`, `runs.csv`, `runs.json`."""
    if not PartialState().is_main_process:
        return
    with _waiting_for(folder):
        results = SweepResults.read(folder)
        if results.finished:
            write_text(folder / "report.html", draw_sweep(results))
            write_text(folder / "runs.csv", as_csv(flat(results)))
            write_json(folder / "runs.json", flat(results))


@contextmanager
def _waiting_for(folder: Path) -> Iterator[None]:
    """Lock a folder, in which another run of the sweep may draw the report just now."""
    with ExitStack() as held:
        for attempt in range(DRAWING_TAKES):
            try:
                held.enter_context(locked(folder, BUSY))
                break
            except OutputError as error:
                if BUSY not in str(error) or attempt == DRAWING_TAKES - 1:
                    raise
                time.sleep(1)
        yield


def _version(recipe: Path | str | dict[str, Any], overrides: Sequence[str]) -> str:
    """What tells one state of a sweep's recipe from another: all keys but those of the sweep, and the overrides."""
    values = recipe if isinstance(recipe, dict) else read_yaml(Path(recipe))
    place = "" if isinstance(recipe, dict) else str(Path(recipe).resolve().parent)  # where its relative paths begin
    return fingerprint([{key: of for key, of in values.items() if key != SWEEP}, list(overrides), place])


def _write_record(folder: Path, points: Sequence[Point], version: str) -> None:
    """Record the runs of a sweep; runs may be added to it, and not change.

    Raises:
        OutputError: the folder holds something else, or another run by one of the names.
    """
    recorded = read_record(folder / SWEEP_FILE)
    if recorded is None and any(path.name != LOCK for path in folder.iterdir()):
        raise OutputError(f"--out {folder} is not empty and holds no sweep; give a new folder")
    known: Mapping[str, Any] = (recorded or {}).get("runs", {})
    runs = dict(known)
    for point in points:
        values = json.loads(json.dumps(dict(point.values), default=str))
        before = known.get(point.name, {})
        if before and before["values"] != values:
            raise OutputError(
                f"--out {folder}: '{point.name}' is another run there; give a new folder, or another name"
            )
        runs[point.name] = {"group": point.group, "values": values, "version": before.get("version")}
    write_json(folder / SWEEP_FILE, {"schema": 1, "version": version, "runs": runs})


def _mark_finished(folder: Path, name: str, version: str) -> None:
    """Record of which state of the recipe a run's results are: only those of the newest are drawn together."""
    if PartialState().is_main_process:
        with _waiting_for(folder):
            record = read_json(folder / SWEEP_FILE)
            record["runs"][name]["version"] = version
            write_json(folder / SWEEP_FILE, record)


def _run_side_by_side(
    recipe: str, chosen: Sequence[Point], folder: Path, overrides: Sequence[str], at_once: int
) -> dict[str, str]:
    """Run each in a process of its own, so many at once; returns those that failed, with the reason."""
    waiting, running, failed = list(chosen), dict[str, subprocess.Popen[bytes]](), dict[str, str]()
    try:
        _wait_for_all(waiting, running, failed, recipe, folder, overrides, at_once)
    finally:  # where this process is stopped, so are they
        for process in running.values():
            process.terminate()
    return failed


def _wait_for_all(
    waiting: list[Point],
    running: dict[str, subprocess.Popen[bytes]],
    failed: dict[str, str],
    recipe: str,
    folder: Path,
    overrides: Sequence[str],
    at_once: int,
) -> None:
    while waiting or running:
        while waiting and len(running) < at_once:
            name = waiting.pop(0).name
            command = [sys.executable, "-m", "lingraft", "run", recipe, "--out", str(folder), "--only", name]
            with (folder / f"{name}.log").open("ab") as log:
                running[name] = subprocess.Popen([*command, *overrides], stdout=log, stderr=log)  # noqa: S603 - ourselves
            logger.info("%s: begun, its messages are in %s.log", name, name)
        for name in list(_ended(running)):
            if code := running.pop(name).returncode:
                failed[name] = f"exit code {code}"
            logger.info("%s: %s", name, f"failed with exit code {code}, see {name}.log" if code else "finished")


def _ended(running: Mapping[str, subprocess.Popen[bytes]]) -> Iterator[str]:
    """Wait a little, and yield the processes that ended."""
    for name, process in running.items():
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue
        yield name
