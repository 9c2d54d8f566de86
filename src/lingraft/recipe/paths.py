"""Relative paths in a recipe's file start at the folder of the file.

Those on the command line, and those of a recipe that is given as a mapping, start at the current folder, as all
paths of a program do; so nothing has to be done for them.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lingraft.checkpoints.names import is_hub_name
from lingraft.corpus.sources import PATH_KEYS
from lingraft.errors import RecipeError
from lingraft.evaluation.task_suites import is_suite_file

_STAGE = re.compile(r"stages\.[^.]*\.")
_FILES = re.compile(
    rf"(corpus\.\d+\.({'|'.join(PATH_KEYS)})|(instructions|evaluation\.pairs)\.\d+\.files|"
    r"evaluation\.text\.[^.]*|evaluation\.tasks\.[^.]*\.(files|examples)\.[^.]*|"
    r"evaluation\.tasks\.[^.]*\.(?!(files|examples|shots|metric|chat|max_tokens)\b)[^.]*|evaluation\.datasets)(\.\d+)?"
)
_SUITES = re.compile(r"evaluation\.suites\.\d+")
_MODELS = re.compile(r"base|chat_template|merge\.\d+\.(instruct|soup\.\d+)")
_MODELS_AS_KEYS = re.compile(r"merge\.\d+\.(vectors|soup)")


def anchored(values: Any, folder: Path, source: str) -> Any:
    """Return the values of a recipe's file with relative paths joined to `folder`, the folder of the file.

    Raises:
        RecipeError: a model is not there, and the current folder has one of its name.
    """

    def model(name: str) -> str:
        if is_hub_name(name) and not (folder / name).exists():
            if Path(name).exists() and Path(name).resolve() != (folder / name).resolve():
                there = os.path.relpath(Path(name).resolve(), folder.resolve())
                problem = f"'{name}' is in the current folder; paths in a recipe start at its own: write {there}"
                raise RecipeError(source, [problem])
            return name
        return str(folder / name)

    return _changed(values, "", lambda pattern: _joined(folder, pattern), model)


def unshared(values: Any) -> Any:
    """Return a copy in which no two places share one object."""
    return _changed(values, "", str, str)


def _changed(value: Any, place: str, file: Callable[[str], str], model: Callable[[str], str]) -> Any:
    """Return a copy with `file` and `model` applied to every path."""
    inside = _STAGE.sub("", place, count=1)
    if isinstance(value, list):
        return [_changed(item, f"{place}.{i}", file, model) for i, item in enumerate(value)]
    if isinstance(value, dict):
        are_models = _MODELS_AS_KEYS.fullmatch(inside) is not None
        return {
            model(key) if are_models and key else key: _changed(item, _below(place, key), file, model)
            for key, item in value.items()
        }
    if not isinstance(value, str) or not value:
        return value
    if _FILES.fullmatch(inside) or (_SUITES.fullmatch(inside) and is_suite_file(value)):
        return file(value)
    return model(value) if _MODELS.fullmatch(inside) else value


def _below(place: str, key: Any) -> str:
    """Return the place of a key's value; a dot inside a key is not a separator."""
    name = str(key).replace(".", "_")
    return f"{place}.{name}" if place else name


def _joined(folder: Path, pattern: str) -> str:
    """Join a path or pattern to a folder, whose own name is escaped."""
    is_pattern = glob.has_magic(pattern) and not (folder / pattern).exists()
    return str(Path(glob.escape(str(folder))) / pattern) if is_pattern else str(folder / pattern)
