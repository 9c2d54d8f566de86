"""What one value of a recipe cannot tell: how its parts fit each other, the base and the Trainer."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lingraft.checkpoints.parents import open_parent
from lingraft.checkpoints.read import (
    CONFIG_ONLY,
    DEFAULT_MAX_LENGTH,
    context_length,
    find_folder,
    find_model,
    read_config,
)
from lingraft.errors import RecipeError, UserError, nearest
from lingraft.layer_groups import LayerRange, depth, is_base
from lingraft.recipe.after import ForgetAtMostStep, absolute, combination
from lingraft.recipe.schema import Recipe
from lingraft.training.arguments import DEFAULT_ARGUMENTS, OWNED_ARGUMENTS, check_arguments

CHOICE = 0.5
"""The share of the text to measure that decides instead, where something is decided."""

AT_LEAST_ONE = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")


def check(recipe: Recipe, source: str) -> Recipe:
    """The recipe with everything filled in.

    Raises:
        RecipeError: every problem that was found.
    """
    problems = [*_language_problems(recipe), *_corpus_problems(recipe), *_training_problems(recipe)]
    config, base_problem = _config(recipe)
    if config is None:
        problems.append(base_problem)
    else:
        problems += _model_problems(recipe, config)
    if problems:
        raise RecipeError(source, problems)
    context = context_length(config)
    evaluation = recipe.evaluation
    text = {code: _absolute(patterns) for code, patterns in evaluation.text.items()}
    tasks = {name: {code: _absolute(of) for code, of in files.items()} for name, files in evaluation.tasks.items()}
    return recipe.model_copy(
        update={
            "corpus": [entry.model_copy(update={"files": _absolute(entry.files)}) for entry in recipe.corpus],
            "evaluation": evaluation.model_copy(update={"text": text, "tasks": tasks}),
            "base": absolute(recipe.base),
            "max_length": recipe.max_length or min(DEFAULT_MAX_LENGTH, context),
            "validation": recipe.validation.model_copy(update={"choice": recipe.validation.choice or CHOICE})
            if recipe.deciding
            else recipe.validation,
            "export": recipe.export or recipe.method.exports(config)[0],
            "training": {**DEFAULT_ARGUMENTS, **recipe.method.training, **recipe.training},
        }
    )


def _absolute(patterns: list[str] | None) -> list[str] | None:
    return patterns and [str(Path(pattern).resolve()) for pattern in patterns]


def _language_problems(recipe: Recipe) -> Iterator[str]:
    languages = recipe.languages
    named = [*languages.learn, *languages.retain, *languages.heldout]
    for code in sorted({code for code in named if named.count(code) > 1}):
        yield f"languages: {code} is named more than once; a language has one role"
    for code in [*languages.retain, *languages.heldout]:
        if code not in recipe.evaluation.text:
            role = languages.roles[code]
            yield (
                f"evaluation.text.{code}: is missing; {code} is under languages.{role} and is measured on text "
                f"of its own: add 'evaluation: {{text: {{{code}: FILE}}}}', or remove the language"
            )
    if recipe.validation.choice is not None and not recipe.deciding:
        yield "validation.choice: nothing is decided on text (early_stopping, forget_at_most); remove it"
    for code in recipe.evaluation.text:
        if code not in languages.roles:
            yield f"evaluation.text.{code}: the language has no role; add it under languages"
    for task, files in recipe.evaluation.tasks.items():
        for code in files:
            if code not in languages.roles:
                yield f"evaluation.tasks.{task}.{code}: the language has no role; add it under languages"


def _corpus_problems(recipe: Recipe) -> Iterator[str]:
    languages = recipe.languages
    for i, entry in enumerate(recipe.corpus):
        if entry.language not in [*languages.learn, *languages.retain]:
            allowed = ", ".join([*languages.learn, *languages.retain])
            yield f"corpus.{i}.language: {entry.language} is neither learned nor retained ({allowed})"
    for code in languages.learn:
        if all(entry.language != code for entry in recipe.corpus):
            yield f"corpus: there is no text of {code}, which is to be learned; add an entry for it"
    shares = sum(entry.share or 0 for entry in recipe.corpus) + recipe.written_share
    if shares >= 1:
        with_written = " with replay.self" if recipe.replay else ""
        yield f"corpus: the shares add up to {shares:g}{with_written}; together they must stay below 1"
    if all(entry.share is not None for entry in recipe.corpus):
        yield "corpus: every entry has a 'share'; at least one must have none, the shares are measured against it"


def _training_problems(recipe: Recipe) -> Iterator[str]:
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
    if name == "save_total_limit" and value is not None and value < 2:
        return "at least 2 (given: 1): a killed run needs the checkpoint before the unfinished one"
    try:
        TypeAdapter(hints[name], config={"arbitrary_types_allowed": True}).validate_python(value, strict=True)
    except ValidationError as error:
        return f"{error.errors()[0]['msg'].removeprefix('Input ')} (given: {value!r})"
    return None


def _config(recipe: Recipe) -> tuple[Any, str]:
    try:
        return read_config(find_model(recipe.base, CONFIG_ONLY)), ""
    except UserError as error:
        return None, f"base: {error}"


def _model_problems(recipe: Recipe, config: Any) -> Iterator[str]:
    if not is_base(config):
        yield f"base: a '{config.model_type}' is what lingraft exports; it can be measured, and not trained further"
        return
    try:
        recipe.method.layers(depth(config))
    except UserError as error:
        yield f"method: {error}"
    yield from _form_problems(recipe, config)
    if getattr(config, "quantization_config", None) is not None:
        yield "base: quantized weights cannot be trained and merged; give the model in bf16 or float32"
    context = context_length(config)
    if recipe.max_length is not None and recipe.max_length > context:
        yield f"max_length: {recipe.max_length} is longer than the model's context; at most {context}"
    yield from _after_problems(recipe)


def _form_problems(recipe: Recipe, config: Any) -> Iterator[str]:
    """What can be done with weights that stay as they are, and not with weights that are added."""
    forms, name = recipe.method.exports(config), recipe.method.name
    settings = "" if forms[0] == "plain" else " with these settings"
    if recipe.export is not None and recipe.export not in forms:
        yield f"export: '{name}'{settings} cannot be written as '{recipe.export}'; allowed: {', '.join(forms)}"
    if recipe.penalties.l2sp:
        layers = recipe.penalties.l2sp
        try:
            LayerRange(layers.first, layers.last, depth(config))
        except UserError as error:
            yield f"penalties.l2sp: {error}"
    if "plain" not in forms:
        if recipe.penalties.l2sp:
            yield f"penalties.l2sp: '{name}' trains no weight of the base, so there is nothing to pull back; remove it"
        if recipe.after:
            yield f"after: '{name}' adds weights that the base does not have, so they cannot be combined; remove it"


def _after_problems(recipe: Recipe) -> Iterator[str]:
    """What would fail after hours of training. Weights on the hub are looked at when the run begins."""
    missing = False
    for i, step in enumerate(recipe.after):
        for name in step.models:
            try:
                find = find_model if name == step.like else find_folder  # what is measured is no adapter
                find(name, CONFIG_ONLY)
            except UserError as error:
                missing = True
                yield f"after.{i}: {error}"
    if recipe.forget_at_most:
        if any(isinstance(step, ForgetAtMostStep) for step in recipe.after[1:]):
            yield "after: forget_at_most is of what training wrote; put it first, and only once"
        if not recipe.languages.retain:
            yield "after.0.forget_at_most: no language is retained, so there is nothing to measure forgetting on"
    names = [recipe.base, *(name for step in recipe.after for name in step.models)]
    if recipe.after and not missing and all(Path(name).is_dir() for name in names):
        try:
            base = open_parent(recipe.base)
            combination(recipe.after, base, base)
        except UserError as error:
            yield f"after: {error}"
