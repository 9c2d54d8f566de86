"""Checks of the models of a recipe before any text is read, for a run and for its plan (`--dry-run`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lingraft.checkpoints.chat_template import check_template, tokenizer_for_chat
from lingraft.checkpoints.check import check_model
from lingraft.checkpoints.read import TOKENIZER_ONLY, find_model, num_rows
from lingraft.checkpoints.tokens import check_tokens
from lingraft.merging.source_model import open_source_model
from lingraft.pipeline.merge import check_merge
from lingraft.recipe import Recipe
from lingraft.recipe.merge_steps import Step
from lingraft.vocabulary.model import read_bpe, rows_for

logger = logging.getLogger(__name__)


def check_models(recipe: Recipe) -> None:
    """Refuse models that a recipe cannot use.

    Raises:
        ModelError: a base, an instruct model or a model of `merge:` that is not there, is damaged or does not fit.
    """
    base = find_model(recipe.base)
    check_model(base)
    if recipe.instruct:
        check_model(find_model(recipe.instruct))
    _check_templates(recipe, base)
    if recipe.vocabulary:  # its tokenizer can be continued, and fits the embeddings
        rows_for(open_source_model(base), read_bpe(base), recipe.vocabulary.new_tokens)
    check_merge(merge_steps_of(recipe), base, base)


def check_models_here(recipe: Recipe) -> None:
    """As `check_models`, without downloads of weights: of models on the hub only the tokenizer is checked.

    Raises:
        ModelError: as there.
    """
    names = [recipe.base, *(name for steps in merge_steps_of(recipe) for step in steps for name in step.models)]
    away = [name for name in dict.fromkeys(names) if not Path(name).is_dir()]
    if not away:
        check_models(recipe)
        return
    base = find_model(recipe.base, TOKENIZER_ONLY)
    check_tokens(base)
    _check_templates(recipe, base)
    logger.info("the weights of %s are looked at when the run begins", ", ".join(away))


def merge_steps_of(recipe: Recipe) -> list[Sequence[Step]]:
    """Return the merge steps of the run and of each stage."""
    return [recipe.merge, *(stage.merge for stage in recipe.stages.values())]


def _check_templates(recipe: Recipe, base: Path) -> None:
    """Check the chat templates of stages with instructions."""
    for stage in recipe.stages.values():
        if stage.instructions:
            tokenizer = tokenizer_for_chat(base, stage.chat_template)
            check_template(tokenizer, base, None if recipe.vocabulary else num_rows(base))
