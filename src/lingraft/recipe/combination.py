"""The merge steps of a recipe as one sum of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from lingraft.merging.assemble import Combination, plan_combination
from lingraft.merging.expression import Checkpoint, Expression
from lingraft.merging.formulas import Sum
from lingraft.merging.source_model import SourceModel, check_origin, open_source_model
from lingraft.recipe.merge_steps import Step


def combination(
    steps: Sequence[Step], adapted: SourceModel, base: SourceModel, made_from: SourceModel | None = None
) -> Combination:
    """Combine merge steps into one sum in float32; everything that can be checked beforehand is checked.

    Before training, the base can stand for the model that is to come of it. Where the base got new tokens for this
    run, `made_from` is what it was without them, as other runs know it.

    Raises:
        ModelError: models that cannot be had, or do not fit each other.
        SelectionError: layers or layer groups that the model does not have.
    """

    @cache
    def opened(name: str) -> SourceModel:
        return open_source_model(name, base)

    expression: Expression = Checkpoint(adapted)
    like, origin = adapted, made_from or base
    parents = dict.fromkeys([adapted, base])
    for step in steps:
        for model in map(opened, step.models):
            parents[model] = None
            if step.are_vectors:
                check_origin(model, origin, force=False)
                parents[origin] = None
        expression = step.expression(expression, origin if step.are_vectors else base, opened)
        like = opened(step.like) if step.like else like
    return plan_combination(Sum(expression, list(parents)), like, dtype="float32")
