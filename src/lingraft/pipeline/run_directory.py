"""The folder of a run: checked, locked, and filled with the published files at the end."""

from __future__ import annotations

import glob
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from lingraft.cache import digests, file_fingerprint, json_text, read_record, records, write_json, write_text
from lingraft.checkpoints.published import changed
from lingraft.disk import (
    LOCK,
    link_to,
    locked,
    mark,
    new_file,
    new_folder,
    remove,
    remove_leftovers,
    remove_leftovers_in,
    share,
    take_back,
    withdraw,
)
from lingraft.errors import OutputError, UserError
from lingraft.output_paths import check_not_read, folder_target
from lingraft.pipeline.merge import ExportedModel
from lingraft.pipeline.results import StageResult, training_log
from lingraft.pipeline.train import training_began
from lingraft.recipe import Recipe, recipe_yaml
from lingraft.reporting.page import draw_page
from lingraft.schema import Results

_RECIPE, _WORK = "recipe.resolved.yaml", "work"
_PUBLISHED = ".published.json"
"""The digests of all that was ever published here, by name."""
_FOLDERS = ("model", "adapter")
_IDENTITY = ("base:", "languages.learn:")
"""Keys that tell one graft from another: a folder is of one."""
_FILES = ("lingraft.json", "training.json", "results.json", "report.html")

logger = logging.getLogger(__name__)


@contextmanager
def acquire_run_directory(out: Path, recipe: Recipe) -> Iterator[None]:
    """Lock the run's folder in the main process, and write the recipe into it.

    Input that turns out wrong before training began leaves nothing behind in a new folder.
    """
    is_main = PartialState().is_main_process
    was_run = (out / _RECIPE).exists() or bool(records(out / _WORK))
    with ExitStack() as held:
        if is_main:
            check_output(out, recipe)
            held.enter_context(locked(out))
            for name in _FOLDERS:
                remove_leftovers(out / name)
            if _resolved(out / _RECIPE, recipe) is None:  # else it says the same
                write_text(out / _RECIPE, recipe_yaml(recipe))
            mark(out / _WORK)
        PartialState().wait_for_everyone()
        try:
            yield
        except UserError:
            if is_main and not was_run and not training_began(out / _WORK):
                remove(out / _WORK)
                take_back(out / _RECIPE)
            raise


def run_target(given: Path | str, recipe: Recipe) -> Path:
    """Return the folder that a run writes.

    Raises:
        OutputError: it cannot be written, or it is, holds, or lies in something that the recipe reads.
    """
    out = folder_target(given)
    for pattern in _read_paths(recipe):
        root = pattern.partition("**")[0]
        if root != pattern and out.is_relative_to(Path(root)):
            raise OutputError(f"--out {out}: '{pattern}' would read what is written there; give a place outside of it")
        check_not_read(out, glob.glob(glob.escape(pattern)) or glob.glob(pattern, recursive=True))
    return out


def _read_paths(recipe: Recipe) -> Iterator[str]:
    """Yield the files, folders and patterns of a resolved recipe, which are absolute."""

    def absolute(value: Any) -> Iterator[str]:
        if isinstance(value, str) and value.startswith("/"):
            yield value
        elif isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from absolute(inner)

    values = recipe.model_dump(mode="json", exclude_none=True)
    for stage in values["stages"].values():
        stage.pop("training", None)
    yield from dict.fromkeys(absolute(values))


def check_output(out: Path, recipe: Recipe) -> None:
    """Refuse a folder that holds the run of another graft, something that is no run, or what a user changed.

    A run of the same base and learned languages goes on with a changed recipe: its steps know what depends on it.

    Raises:
        OutputError: names the keys in which the recipes differ, or the files.
    """
    previous, names = out / _RECIPE, {path.name for path in out.iterdir()} if out.is_dir() else set()
    was, now = _resolved(previous, recipe), yaml.safe_load(recipe_yaml(recipe))
    if was is None:
        ours = {LOCK, previous.name, _WORK} if previous.name in names else {LOCK}
        if names - ours and not records(out / _WORK):
            raise OutputError(
                f"--out {out} is not empty and not a run's folder (it holds {', '.join(sorted(names)[:3])}); "
                "give a new folder"
            )
        if names - {LOCK}:
            logger.warning("%s: missing or damaged, written again", previous)
        return
    changes = list(_differences(was, now))
    if other := [change for change in changes if change.startswith(_IDENTITY)]:
        raise OutputError(
            f"--out {out} belongs to another run ({'; '.join(other)}); give a new folder, or delete this one to "
            "start over"
        )
    if changes:
        logger.info("the recipe changed (%s): what depends on it is made again", "; ".join(changes))
    _check_unchanged(out)


def _resolved(path: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Read the recipe in a folder; None if its file is missing or damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    is_cut = len(text) < len(recipe_yaml(recipe)) and recipe_yaml(recipe).startswith(text)
    return values if isinstance(values, dict) and all(isinstance(key, str) for key in values) and not is_cut else None


def _differences(was: dict[str, Any], now: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield the keys in which two recipes differ, and a different order of stages."""
    for key in sorted({*was, *now}, key=str):
        there, here = was.get(key), now.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            if key == "stages" and there.keys() == here.keys() and list(there) != list(here):
                yield f"{place}{key}: in the order {', '.join(there)} there, {', '.join(here)} here"
            yield from _differences(there, here, f"{place}{key}.")
        elif there != here:
            yield f"{place}{key}: {there!r} there, {here!r} here"


def _check_unchanged(out: Path) -> None:
    """Refuse to continue if a published file was changed.

    Raises:
        OutputError: names the files.
    """
    files = {name: out / name for name in _FILES}
    for folder in _FOLDERS:
        files |= {path.relative_to(out).as_posix(): path for path in sorted((out / folder).rglob("*"))}
    if yours := changed(files, _known(out)):
        raise OutputError(
            f"--out {out}: {', '.join(yours[:3])} changed since the run wrote it, or you put it there, and would be "
            "lost; move it away, or give a new folder"
        )


def _known(out: Path) -> dict[str, list[str]]:
    return read_record(out / _PUBLISHED) or {}


def _remember(out: Path, files: Mapping[str, str]) -> None:
    """Record the digests of files before they are published, so that a killed run recognizes them."""
    known = _known(out)
    new = {name: digest for name, digest in files.items() if digest not in known.get(name, ())}
    if new:
        write_json(out / _PUBLISHED, known | {name: [*known.get(name, ()), digest] for name, digest in new.items()})


def publish_folder(
    source: Path, out: Path, name: str, beside: Mapping[str, str] | None = None, moved: bool = False
) -> None:
    """Publish a step's folder in the run's folder, with the texts in `beside` added.

    `moved`: its files are on the disk once. They lie in the public place, and the stage's folder links to them.
    """
    if not source.is_dir():
        return
    remove_leftovers_in(source)  # of a process that was killed while it made links
    target, texts, files = out / name, beside or {}, digests(source)
    there = digests(target)
    if {file: digest for file, digest in there.items() if file not in texts} != files or any(
        file not in there or (target / file).read_text(encoding="utf-8") != text for file, text in texts.items()
    ):
        with new_folder(target) as temporary:
            for file in files:
                (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                (share if moved else shutil.copyfile)((source / file).resolve(), temporary / file)
            for file, text in texts.items():
                write_text(temporary / file, text)
            _remember(out, {f"{name}/{file}": digest for file, digest in digests(temporary).items()})
    for file in files if moved else ():
        if not (source / file).is_symlink() and (source / file).samefile(target / file):
            link_to(source / file, target / file)


def publish_text(out: Path, name: str, text: str) -> None:
    """Publish a text file in the run's folder."""
    with new_file(out / name) as new:
        new.write_text(text, encoding="utf-8")
        _remember(out, {name: file_fingerprint(new)})


def publish(
    out: Path,
    recipe: Recipe,
    exported: ExportedModel,
    stages: Sequence[StageResult],
    results: Results,
    origin: Mapping[str, Any],
    beside_model: Mapping[str, str],
) -> None:
    """Publish models, what lies beside them, records and the report in the run's folder, from the main process."""
    if not PartialState().is_main_process:
        return
    record, adapter = json_text(origin), stages[-1].adapted.adapter
    beside = {"lingraft.json": record, **beside_model}
    publish_folder(exported.folder / "model", out, "model", beside, moved=True)
    if adapter.is_dir() and recipe.is_short and not recipe.vocabulary:  # else it is of a model that is not published
        publish_folder(adapter, out, "adapter", {"lingraft.json": record})
    elif (out / "adapter").exists():  # of the recipe as it was
        withdraw(out / "adapter")
    write_text(out / _RECIPE, recipe_yaml(recipe))
    publish_text(out, "lingraft.json", record)
    publish_text(out, "training.json", json_text(training_log(stages)))
    publish_text(out, "results.json", json_text(results.to_json()))
    publish_text(out, "report.html", draw_page([out]))
