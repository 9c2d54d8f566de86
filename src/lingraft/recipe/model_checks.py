"""Check that a base can be trained as a recipe says, and merged with the models that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lingraft.checkpoints.document_marks import check_marks
from lingraft.checkpoints.read import CONFIG_ONLY, context_length, find_folder, find_model, read_tokenizer
from lingraft.errors import UserError
from lingraft.evaluation.chat_turns import why_no_chat
from lingraft.layer_groups import depth, is_base
from lingraft.merging.source_model import open_source_model
from lingraft.methods.base import Method
from lingraft.recipe.combination import combination
from lingraft.recipe.merge_steps import MaxForgettingStep
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stage import Stage
from lingraft.recipe.well_formed import Broken, keys_of
from lingraft.vocabulary.model import read_bpe


def placed(place: str, problems: Iterable[str]) -> Iterator[str]:
    """Prefix problems of a stage with its place in the recipe."""
    return (f"{place}{problem}" for problem in problems)


def model_problems(recipe: Recipe, config: Any, broken: Broken = frozenset()) -> Iterator[str]:
    """Yield the problems of well-formed sections with this base."""
    if not is_base(config):
        yield f"base: a '{config.model_type}' is what lingraft exports; it can be measured, and not trained further"
        return
    for name, stage in recipe.stages.items():
        if not keys_of(broken, name) & {"method", "penalties", "instructions"}:
            yield from placed(recipe.place(name), _method_problems(stage, config))
    for name, stage in recipe.stages.items():
        if not keys_of(broken, name) & {"method", "merge"}:
            yield from placed(recipe.place(name), _stage_problems(stage, config, hands_on=name != recipe.last))
    keys = keys_of(broken)
    if not keys & {"method", "merge", "export"}:
        yield from _form_problems(recipe, recipe.stages[recipe.last].method, config)
    yield from _document_problems(recipe)
    yield from _chat_problems(recipe)
    yield from _vocabulary_problems(recipe)
    if getattr(config, "quantization_config", None) is not None:
        yield "base: quantized weights cannot be trained and merged; give the model in bf16 or float32"
    context = context_length(config)
    if recipe.max_length is not None and recipe.max_length > context:
        yield f"max_length: {recipe.max_length} is longer than the model's context; at most {context}"
    if not keys & {"merge", "languages"}:
        yield from _merge_problems(recipe)


def _method_problems(stage: Stage, config: Any) -> Iterator[str]:
    """Yield the problems of a stage: its method and penalties on this base."""
    name = stage.method.name
    try:
        stage.method.check(config)
        stage.method.layers(depth(config))
    except UserError as error:
        yield f"method: {error}"
    forms = stage.method.exports(config)
    for penalty in stage.penalties.given.values():
        yield from placed(f"penalties.{penalty.name}: ", penalty.problems(config, stage.method))
    if stage.averaging and stage.averaging.pull and "plain" not in forms:
        yield f"averaging.pull: '{name}' trains no parameter of the base, so there is nothing to pull; remove it"
    if stage.averaging and stage.averaging.ema and stage.early_stopping:
        yield "averaging.ema: early_stopping exports the weights of the best evaluation; remove one of them"
    if stage.instructions and "plain" not in forms:
        yield f"method: '{name}' adds weights whose loss needs old and new text; learn instructions with lora or full"
    elif stage.instructions and stage.method.looks_at_text:
        yield f"method: '{name}' so set looks at old and new text first; learn instructions with plain lora or full"


def _stage_problems(stage: Stage, config: Any, hands_on: bool) -> Iterator[str]:
    """Yield the problems of a stage that hands its model on, or merges it."""
    adds_weights = "plain" not in stage.method.exports(config)
    if adds_weights and stage.merge:
        yield f"merge: '{stage.method.name}' adds weights that the base does not have, so they cannot be combined"
    elif adds_weights and hands_on:
        yield f"method: '{stage.method.name}' adds weights, which cannot be handed on; only the last stage can have it"
    for step in stage.merge:
        if isinstance(step, MaxForgettingStep):
            yield "merge: max_forgetting is of the whole run; put it under 'merge', beside 'stages'"
        if step.models:
            other = step.models[0]
            yield f"merge: {other} has no part in a stage, which hands its own model on; put it beside 'stages'"


def _form_problems(recipe: Recipe, method: Method, config: Any) -> Iterator[str]:
    """Yield exports and merge steps that are not possible with added parameters."""
    forms, name = method.exports(config), method.name
    if recipe.export is not None and recipe.export not in forms:
        settings = "" if forms[0] == "plain" else " with these settings"
        yield f"export: '{name}'{settings} cannot be written as '{recipe.export}'; allowed: {', '.join(forms)}"
    if recipe.merge and "plain" not in forms:
        yield f"merge: '{name}' adds weights that the base does not have, so they cannot be combined; remove it"


def _document_problems(recipe: Recipe) -> Iterator[str]:
    """Yield marks of documents that the base's tokenizer does not have; of one on the hub when the run begins."""
    if recipe.document and Path(recipe.base).is_dir():
        try:
            check_marks(read_tokenizer(find_model(recipe.base)), recipe.marks)
        except UserError as error:
            yield str(error)


def _chat_problems(recipe: Recipe) -> Iterator[str]:
    """Yield why a base cannot generate conversations; of one on the hub a run says so."""
    places = [f"{recipe.place(name)}replay.from" for name, stage in recipe.stages.items() if stage.replays_chat]
    if recipe.languages.chat:
        places = ["languages.retain", *places]
    if places and Path(recipe.base).is_dir():
        try:
            problem = why_no_chat(read_tokenizer(find_model(recipe.base)))
        except UserError:  # said when a run begins
            return
        if problem:
            yield from (f"{place}: {problem}; remove 'chat'" for place in places)


def _vocabulary_problems(recipe: Recipe) -> Iterator[str]:
    """Yield why the tokenizer cannot be extended; one on the hub is checked when the run begins."""
    if recipe.vocabulary and Path(recipe.base).is_dir():
        try:
            read_bpe(find_model(recipe.base))
        except UserError as error:
            yield f"vocabulary: {error}"


def _merge_problems(recipe: Recipe) -> Iterator[str]:
    """Yield problems of merge steps before training. Weights on the hub are checked when the run begins."""
    missing = False
    steps = [(f"merge.{i}", step) for i, step in enumerate(recipe.merge)]
    for name, stage in recipe.stages.items():
        steps += [(f"{recipe.place(name)}merge.{i}", step) for i, step in enumerate(stage.merge)]
    for place, step in steps:
        for name in step.models:
            try:
                find = find_model if name == step.like else find_folder  # what is measured is no adapter
                find(name, CONFIG_ONLY)
            except UserError as error:
                missing = True
                yield f"{place}: {error}"
    if recipe.max_forgetting:
        if any(isinstance(step, MaxForgettingStep) for step in recipe.merge[1:]):
            yield "merge: max_forgetting is of what training wrote; put it first, and only once"
        if not recipe.languages.retain:
            yield "merge.0.max_forgetting: no language is retained, so there is nothing to measure forgetting on"
    names = [recipe.base, *(name for _, step in steps for name in step.models)]
    if steps and not missing and all(Path(name).is_dir() for name in names):
        of_each = {recipe.place(name): stage.merge for name, stage in recipe.stages.items()}
        for place, after in [*of_each.items(), ("", recipe.merge)]:
            if not after:
                continue
            try:
                base = open_source_model(recipe.base)
                combination(after, base, base)
            except UserError as error:
                yield from placed(place, [f"merge: {error}"])
