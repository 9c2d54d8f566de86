"""Whether the Trainer takes the settings under `training:`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lingraft.errors import nearest
from lingraft.recipe.schema import Recipe
from lingraft.training.arguments import OWNED_ARGUMENTS, check_arguments

AT_LEAST_ONE = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")


def training_problems(recipe: Recipe) -> Iterator[str]:
    from transformers import TrainingArguments

    hints = typing.get_type_hints(TrainingArguments)
    names = {field.name for field in dataclasses.fields(TrainingArguments) if field.init} - set(OWNED_ARGUMENTS)
    found = False
    for name, value in recipe.training.items():
        problem = _argument_problem(name, value, names, hints)
        if problem:
            found = True
            yield f"training.{name}: {problem}"
    if found:
        return
    if recipe.early_stopping and recipe.training.get("eval_strategy") == "no":
        yield "early_stopping: needs evaluations; take eval_strategy: no out of training"
    try:
        check_arguments({**recipe.method.training, **recipe.training})
    except (ValueError, TypeError, ImportError, RuntimeError, KeyError) as error:
        yield f"training: the Trainer refuses these settings: {str(error).strip().splitlines()[0]}"


def _argument_problem(name: str, value: Any, names: set[str], hints: dict[str, Any]) -> str | None:
    if name in OWNED_ARGUMENTS:
        return f"this argument is not yours to set: {OWNED_ARGUMENTS[name]}"
    if name not in names:
        return f"transformers.TrainingArguments has no such name{nearest(name, names)}"
    if name in AT_LEAST_ONE and isinstance(value, int) and value < 1:
        return f"at least 1 (given: {value})"
    if name == "num_train_epochs" and isinstance(value, int | float) and value <= 0:
        return f"more than 0 (given: {value})"
    if name == "save_total_limit" and value is not None and value < 2:
        return "at least 2 (given: 1): a killed run needs the checkpoint before the unfinished one"
    try:
        TypeAdapter(hints[name], config={"arbitrary_types_allowed": True}).validate_python(value, strict=True)
    except ValidationError as error:
        return f"{error.errors()[0]['msg'].removeprefix('Input ')} (given: {value!r})"
    return None
