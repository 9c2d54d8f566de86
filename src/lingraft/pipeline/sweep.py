"""A sweep: every run of it in a folder of its own, what they share made once, and one report of all."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lingraft.cache import read_json, read_record, write_json, write_text
from lingraft.disk import locked
from lingraft.errors import OutputError, RecipeError, UserError
from lingraft.output_paths import folder_target
from lingraft.pipeline.run import run_recipe
from lingraft.recipe import load_recipe
from lingraft.recipe.sweep import Point, Sweep, points_of
from lingraft.reporting.sweep import SWEEP_FILE, draw_sweep, runs_csv, runs_json

logger = logging.getLogger(__name__)

DRAWING_TAKES = 60
"""Seconds at most in which another run draws the report."""


def run_sweep(
    recipe: Path | str | dict[str, Any],
    sweep: Sweep,
    out: Path | str,
    overrides: Sequence[str] = (),
    only: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Run all of a sweep, or those that `only` matches; returns the results by the name of the run.

    Every recipe is loaded before the first one runs. `only` holds names or patterns, with commas between them, so that
    several machines can share a sweep: each writes its own runs into the same folder.

    Raises:
        RecipeError: all problems of the first recipe that has any.
        UserError: `only` matches no run, or a run failed.
        OutputError: `out` is of another sweep.
    """
    source = "recipe" if isinstance(recipe, dict) else str(recipe)
    points = points_of(sweep, source)
    chosen = [point for point in points if only is None or _matches(point.name, only)]
    if not chosen:
        raise UserError(f"--only {only}: no run has such a name; they are {', '.join(point.name for point in points)}")
    for point in points:
        try:
            load_recipe(recipe, overrides, point=point.values)
        except RecipeError as error:
            raise RecipeError(f"{source}, run '{point.name}'", error.problems) from None
    folder = folder_target(out)
    _check(folder, points)
    folder.mkdir(parents=True, exist_ok=True)
    _write_once(folder, points)
    logger.info("%d runs, %d of them here: %s", len(points), len(chosen), ", ".join(point.name for point in chosen))
    if sweep.max_parallel > 1 and len(chosen) > 1 and not isinstance(recipe, dict):
        _run_side_by_side(recipe, chosen, folder, overrides, sweep.max_parallel)
    else:
        for point in chosen:
            logger.info("%s", point.name)
            beside = [folder / other.name for other in points if other.name != point.name]
            run_recipe(recipe, folder / point.name, overrides, beside, point.values)
            write_sweep_report(folder)
    write_sweep_report(folder)
    return {point.name: read_json(folder / point.name / "results.json") for point in chosen}


def write_sweep_report(folder: Path) -> None:
    """Draw all runs of a sweep that are finished: `report.html`, `runs.csv`, `runs.json`."""
    with _waiting_for(folder):
        write_text(folder / "report.html", draw_sweep(folder))
        write_text(folder / "runs.csv", runs_csv(folder))
        write_text(folder / "runs.json", runs_json(folder))


@contextmanager
def _waiting_for(folder: Path) -> Iterator[None]:
    """Lock a folder, in which another run of the sweep may draw the report just now."""
    with ExitStack() as held:
        for attempt in range(DRAWING_TAKES):
            try:
                held.enter_context(locked(folder))
                break
            except OutputError:
                if attempt == DRAWING_TAKES - 1:
                    raise
                time.sleep(1)
        yield


def _matches(name: str, only: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in only.split(","))


def _record(points: Sequence[Point]) -> dict[str, Any]:
    return {
        "schema": 1,
        "runs": {point.name: {"group": point.group, "values": dict(point.values)} for point in points},
    }


def _check(folder: Path, points: Sequence[Point]) -> None:
    """Refuse a folder of something else; runs may be added to a sweep, and not change."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    recorded = (read_record(folder / SWEEP_FILE) or {}).get("runs")
    if not isinstance(recorded, Mapping):
        raise OutputError(f"--out {folder} is not empty and holds no sweep; give a new folder")
    now = _record(points)["runs"]
    if other := [name for name, run in recorded.items() if name in now and run != now[name]]:
        raise OutputError(f"--out {folder}: '{other[0]}' is another run there; give a new folder, or another name")


def _write_once(folder: Path, points: Sequence[Point]) -> None:
    recorded = (read_record(folder / SWEEP_FILE) or {}).get("runs", {})
    record = _record(points)
    record["runs"] = {**recorded, **record["runs"]}
    if recorded != record["runs"]:
        write_json(folder / SWEEP_FILE, record)


def _run_side_by_side(
    recipe: Path | str, chosen: Sequence[Point], folder: Path, overrides: Sequence[str], at_once: int
) -> None:
    """Run each in a process of its own, so many at once; the others go on where one fails."""
    waiting, running, failed = list(chosen), dict[str, subprocess.Popen[bytes]](), dict[str, int]()
    while waiting or running:
        while waiting and len(running) < at_once:
            name = waiting.pop(0).name
            command = [sys.executable, "-m", "lingraft", "run", str(recipe), "--out", str(folder), "--only", name]
            log = (folder / f"{name}.log").open("ab")
            running[name] = subprocess.Popen([*command, *overrides], stdout=log, stderr=log)  # noqa: S603 - ourselves
            logger.info("%s: begun, its messages are in %s.log", name, name)
        for name in list(_ended(running)):
            if code := running.pop(name).returncode:
                failed[name] = code
            logger.info("%s: %s", name, f"failed with exit code {code}" if code else "finished")
    if failed:
        raise UserError(f"{len(failed)} runs failed: {', '.join(failed)}; see their logs in {folder}, and start again")


def _ended(running: Mapping[str, subprocess.Popen[bytes]]) -> Iterator[str]:
    """Wait a little, and yield the processes that ended."""
    for name, process in running.items():
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue
        yield name
