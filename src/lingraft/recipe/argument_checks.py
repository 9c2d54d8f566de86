"""Check the settings under `training:` as far as possible before training."""

from __future__ import annotations

import dataclasses
import importlib.util
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lingraft.errors import first_line, nearest
from lingraft.recipe.stage import Stage
from lingraft.training.argument_rules import DEVICE_ARGUMENTS, rule_problem
from lingraft.training.arguments import OWNED_ARGUMENTS, check_arguments, missing_here

PACKAGES = {"use_liger_kernel": ("liger_kernel", "liger-kernel")}
"""Switches that need a package: its module, and what to install."""


def training_problems(stage: Stage, runs_here: bool = True) -> Iterator[str]:
    """Yield the problems of one stage's settings; device problems only where the run happens on this machine."""
    settings = {**stage.method.training, **stage.training}
    wrong = dict(_problems_of_each(stage.training))
    missing = missing_here({name: value for name, value in settings.items() if name not in wrong})
    if runs_here:
        wrong |= missing
    yield from (f"training.{name}: {problem}" for name, problem in wrong.items())
    if stage.early_stopping and stage.training.get("eval_strategy") == "no":
        yield "early_stopping: needs evaluations; take eval_strategy: no out of training"
    built = {name: value for name, value in settings.items() if name not in {**wrong, **missing}}
    if missing:
        built = {name: value for name, value in built.items() if name not in DEVICE_ARGUMENTS}
    try:
        check_arguments(built)
    except (OSError, MemoryError):  # of this machine
        raise
    except Exception as error:  # whatever a library says of settings that are all that it was given
        yield f"training: the Trainer refuses these settings: {first_line(error)}"


def _problems_of_each(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from lingraft.training.graft_arguments import GraftArguments

    hints = typing.get_type_hints(GraftArguments)
    names = {field.name for field in dataclasses.fields(GraftArguments) if field.init} - set(OWNED_ARGUMENTS)
    for name, value in settings.items():
        if problem := _problem(name, value, names, hints):
            yield name, problem


def _problem(name: str, value: Any, names: set[str], hints: dict[str, Any]) -> str | None:
    if name in OWNED_ARGUMENTS:
        return f"this argument is not yours to set: {OWNED_ARGUMENTS[name]}"
    if name not in names:
        return f"transformers.TrainingArguments has no such name{nearest(name, names)}"
    try:
        TypeAdapter(hints[name], config={"arbitrary_types_allowed": True}).validate_python(value, strict=True)
    except ValidationError as error:
        return f"{error.errors()[0]['msg'].removeprefix('Input ')} (given: {repr(value)[:200]})"
    if value and name in PACKAGES and importlib.util.find_spec(PACKAGES[name][0]) is None:
        return f"needs the package {PACKAGES[name][1]}; install it with: pip install {PACKAGES[name][1]}"
    return rule_problem(name, value)
