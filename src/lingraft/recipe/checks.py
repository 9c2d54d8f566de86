"""Checks across the sections of a recipe, all reported at once; then every default is filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lingraft.checkpoints.document_marks import MARKS_ONLY, document_marks
from lingraft.checkpoints.read import CONFIG_ONLY, DEFAULT_MAX_LENGTH, context_length, find_model, read_config
from lingraft.corpus.sources import PATH_KEYS
from lingraft.errors import UserError
from lingraft.evaluation.questions import TaskFiles
from lingraft.evaluation.task_suites import is_suite_file
from lingraft.recipe.argument_checks import training_problems
from lingraft.recipe.merge_steps import absolute
from lingraft.recipe.model_checks import model_problems, placed
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stage import Replay, Stage
from lingraft.recipe.text import CorpusEntry, Document
from lingraft.recipe.text_checks import (
    corpus_problems,
    instruction_problems,
    language_problems,
    replay_problems,
    selection_problems,
    text_problems,
)
from lingraft.recipe.well_formed import Broken, keys_of
from lingraft.training.arguments import DEFAULT_ARGUMENTS

SELECTION_SHARE = 0.5
"""Default share of the text to measure for the selection split, where one is needed."""


class Check(NamedTuple):
    """A check across sections of a recipe; it runs only if all sections that it needs are well-formed."""

    needs: frozenset[str]
    problems: Callable[..., Iterable[str]]


def _check(problems: Callable[..., Iterable[str]], *needs: str) -> Check:
    return Check(frozenset(needs), problems)


OF_RECIPE = (
    _check(language_problems, "languages", "evaluation"),
    _check(selection_problems, "validation", "early_stopping", "merge"),
    _check(text_problems, "languages", "evaluation", "corpus", "instructions", "vocabulary"),
)
OF_STAGE = (
    _check(corpus_problems, "languages", "corpus", "instructions", "replay"),
    _check(replay_problems, "method", "replay"),
    _check(
        instruction_problems,
        *("languages", "corpus", "instructions", "chat_template", "replay", "early_stopping", "averaging"),
    ),
)
"""Of each stage."""


def problems_of_fit(recipe: Recipe, broken: Broken, runs_here: bool) -> tuple[Any, list[str]]:
    """Return the base's config, if it can be read, and every problem of the well-formed sections."""
    problems: list[str] = []
    for check in OF_RECIPE:
        if not check.needs & keys_of(broken):
            problems += check.problems(recipe)
    for name, stage in recipe.stages.items():
        keys, place = keys_of(broken, name), recipe.place(name)
        for check in OF_STAGE:
            if not check.needs & keys:
                problems += placed(place, check.problems(stage, recipe.languages))
        if "training" not in keys:
            problems += placed(place, training_problems(stage, runs_here))
    if ("base",) in broken:
        return None, problems
    config, base_problem = _config(recipe)
    problems += [base_problem] if config is None else model_problems(recipe, config, broken)
    return config, problems


def filled_in(recipe: Recipe, config: Any) -> Recipe:
    """Return the recipe with all defaults filled in."""
    evaluation = recipe.evaluation
    text = {code: _absolute(patterns) for code, patterns in evaluation.text.items()}
    tasks = {name: _task_filled_in(task) for name, task in evaluation.tasks.items()}
    pairs = [of.model_copy(update={"files": _absolute(of.files)}) for of in evaluation.pairs]
    suites = [str(Path(suite).resolve()) if is_suite_file(suite) else suite for suite in evaluation.suites]
    datasets = evaluation.datasets and str(Path(evaluation.datasets).resolve())
    stages, template = {}, None
    for name, stage in recipe.stages.items():
        stages[name] = _stage_filled_in(stage, template, recipe.languages.chat)
        template = stages[name].chat_template or template  # goes along with the model that is handed on
    return recipe.model_copy(
        update={
            "stages": stages,
            "evaluation": evaluation.model_copy(
                update={"text": text, "tasks": tasks, "suites": suites, "datasets": datasets, "pairs": pairs}
            ),
            "base": absolute(recipe.base),
            "document": recipe.document or _document(recipe.base),
            "max_length": recipe.max_length or min(DEFAULT_MAX_LENGTH, context_length(config)),
            "validation": recipe.validation.model_copy(
                update={"selection_share": recipe.validation.selection_share or SELECTION_SHARE}
            )
            if recipe.selection_languages
            else recipe.validation,
            "export": recipe.export or stages[recipe.last].method.exports(config)[0],
        }
    )


def _replay_filled_in(replay: Replay, chat: bool) -> Replay:
    """Replay conversations too where `chat` is retained and nothing is said of it."""
    if "sources" in replay.model_fields_set or not chat:
        return replay
    return replay.model_copy(update={"sources": {"document": 0.5, "chat": 0.5}})


def _stage_filled_in(stage: Stage, handed_on: str | None, chat: bool) -> Stage:
    """Fill in the defaults of a stage; a stage of instructions inherits the chat template of the stage before it."""
    instructions = stage.instructions
    template = stage.chat_template or (handed_on if instructions else None)
    return stage.model_copy(
        update={
            "corpus": [_with_absolute_paths(entry) for entry in stage.corpus],
            "instructions": instructions
            and [entry.model_copy(update={"files": _absolute(entry.files)}) for entry in instructions],
            "chat_template": str(Path(template).resolve()) if template and Path(template).exists() else template,
            "replay": stage.replay and _replay_filled_in(stage.replay, chat),
            "training": {**DEFAULT_ARGUMENTS, **stage.method.training, **stage.training},
        }
    )


def _with_absolute_paths(entry: CorpusEntry) -> CorpusEntry:
    return entry.model_copy(update={key: _absolute(getattr(entry, key)) for key in PATH_KEYS})


def _task_filled_in(task: TaskFiles) -> TaskFiles:
    files = {code: _absolute(patterns) for code, patterns in task.files.items()}
    examples = {code: _absolute(patterns) for code, patterns in task.examples.items()}
    return task.model_copy(update={"files": files, "examples": examples})


def _absolute(patterns: list[str] | None) -> list[str] | None:
    return patterns and [str(Path(pattern).resolve()) for pattern in patterns]


def _document(base: str) -> Document:
    """Return the marks of the base's pretraining; none where it has no tokenizer, which a run refuses."""
    try:
        marks = document_marks(find_model(base, MARKS_ONLY))
    except UserError:
        return Document()
    return Document(bos=marks.bos, eos=marks.eos)


def _config(recipe: Recipe) -> tuple[Any, str]:
    try:
        return read_config(find_model(recipe.base, CONFIG_ONLY)), ""
    except UserError as error:
        return None, f"base: {error}"
