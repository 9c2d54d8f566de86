"""What one value of a recipe cannot tell: all problems of fit at once, then everything filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.checkpoints.read import CONFIG_ONLY, DEFAULT_MAX_LENGTH, context_length, find_model, read_config
from lingraft.errors import RecipeError, UserError
from lingraft.recipe.after import absolute
from lingraft.recipe.argument_checks import training_problems
from lingraft.recipe.model_checks import in_stage, model_problems
from lingraft.recipe.schema import Recipe
from lingraft.recipe.text_checks import corpus_problems, instruction_problems, language_problems, text_problems
from lingraft.recipe.training import Training
from lingraft.training.arguments import DEFAULT_ARGUMENTS

CHOICE = 0.5
"""The share of the text to measure that decides instead, where something is decided."""


def check(recipe: Recipe, source: str) -> Recipe:
    """The recipe with everything filled in.

    Raises:
        RecipeError: every problem that was found.
    """
    problems = [*language_problems(recipe), *text_problems(recipe)]
    for name, stage in recipe.expanded.items():
        problems += in_stage(name, [*corpus_problems(stage), *instruction_problems(stage), *training_problems(stage)])
    config, base_problem = _config(recipe)
    if config is None:
        problems.append(base_problem)
    else:
        problems += model_problems(recipe, config)
    if problems:
        raise RecipeError(source, problems)
    return _filled_in(recipe, config)


def _filled_in(recipe: Recipe, config: Any) -> Recipe:
    evaluation = recipe.evaluation
    text = {code: _absolute(patterns) for code, patterns in evaluation.text.items()}
    tasks = {name: {code: _absolute(of) for code, of in files.items()} for name, files in evaluation.tasks.items()}
    trainings = {name: _training_filled_in(stage) for name, stage in (recipe.stages or {"": recipe}).items()}
    last = list(trainings.values())[-1]
    return recipe.model_copy(
        update={
            **({"stages": trainings} if recipe.stages else {key: getattr(last, key) for key in Training.model_fields}),
            "evaluation": evaluation.model_copy(update={"text": text, "tasks": tasks}),
            "base": absolute(recipe.base),
            "max_length": recipe.max_length or min(DEFAULT_MAX_LENGTH, context_length(config)),
            "validation": recipe.validation.model_copy(update={"choice": recipe.validation.choice or CHOICE})
            if recipe.deciding
            else recipe.validation,
            "export": recipe.export or last.method.exports(config)[0],
        }
    )


def _training_filled_in(stage: Training) -> Training:
    template = stage.chat_template
    instructions = stage.instructions
    return stage.model_copy(
        update={
            "corpus": [entry.model_copy(update={"files": _absolute(entry.files)}) for entry in stage.corpus],
            "instructions": instructions
            and [entry.model_copy(update={"files": _absolute(entry.files)}) for entry in instructions],
            "chat_template": str(Path(template).resolve()) if template and Path(template).exists() else template,
            "training": {**DEFAULT_ARGUMENTS, **stage.method.training, **stage.training},
        }
    )


def _absolute(patterns: list[str] | None) -> list[str] | None:
    return patterns and [str(Path(pattern).resolve()) for pattern in patterns]


def _config(recipe: Recipe) -> tuple[Any, str]:
    try:
        return read_config(find_model(recipe.base, CONFIG_ONLY)), ""
    except UserError as error:
        return None, f"base: {error}"
