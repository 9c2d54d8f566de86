"""`merge:` of a recipe: what is done with the trained model, in order, without training.

Each step makes an expression of the one before, so that the whole list is one sum of checkpoints:
computed in one pass, in float32, and rounded once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import AfterValidator, Discriminator, Field, Tag

from lingraft.layer_groups import LayerRange, num_layers
from lingraft.merging.assemble import Combination, plan_combination
from lingraft.merging.expression import (
    Checkpoint,
    Expression,
    Mean,
    Scale,
    Shifted,
    Vector,
    instructed,
    interpolated,
    language_vectors,
    reverted,
    scales_by_group,
)
from lingraft.merging.formulas import Sum
from lingraft.merging.source_model import SourceModel, check_origin, open_source_model
from lingraft.recipe.section import Section


def absolute(model: str) -> str:
    """A model's folder as an absolute path; a hub name as it is."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


Finite = Annotated[float, Field(allow_inf_nan=False)]
Weight = Annotated[float, Field(gt=0)]
ModelName = Annotated[str, Field(min_length=1), AfterValidator(absolute)]
Open = Callable[[str], SourceModel]


class Layers(Section):
    """Layer groups, as counts of the first and last layers."""

    first: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0)]

    def of(self, model: SourceModel) -> LayerRange:
        """The groups of a model's layers."""
        return LayerRange(self.first, self.last, num_layers(model.weights))


class GroupScales(Layers):
    """Layer groups, and a factor for some of them."""

    scale: Annotated[dict[str, Finite], Field(min_length=1)]


class Step(Section, ABC):
    """One entry of `merge:`, told by its verb."""

    @property
    def models(self) -> Sequence[str]:
        """Other models that it takes."""
        return ()

    @property
    def are_vectors(self) -> bool:
        """Whether they are measured from the base, so that it must be theirs."""
        return False

    @property
    def like(self) -> str | None:
        """The model that config, tokenizer and chat template come from, if not the one before."""
        return None

    @abstractmethod
    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        """What becomes of `adapted`.

        Raises:
            SelectionError: layers or layer groups that the model does not have.
            ModelError: another model that cannot be had.
        """


class ScaleStep(Step):
    """base + scale (adapted - base). In the second stage of LayRA-series the base is the first stage's model."""

    scale: Finite

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        return language_vectors(Checkpoint(base), [(adapted, self.scale)])


class VectorsStep(Step):
    """adapted + sum_i scale_i (other_i - base): language vectors of other runs on the same base."""

    vectors: Annotated[dict[ModelName, Finite], Field(min_length=1)]

    @property
    def models(self) -> Sequence[str]:
        return list(self.vectors)

    @property
    def are_vectors(self) -> bool:
        return True

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        start = Checkpoint(base)
        return Shifted(
            adapted, tuple(Vector(Checkpoint(opened(name)), start, scale) for name, scale in self.vectors.items())
        )


class SoupStep(Step):
    """The mean of adapted, which weighs `weight`, and others."""

    soup: Annotated[list[ModelName] | dict[ModelName, Weight], Field(min_length=1)]
    weight: Weight = 1.0

    @property
    def models(self) -> Sequence[str]:
        return list(self.soup)

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        weights = self.soup if isinstance(self.soup, dict) else dict.fromkeys(self.soup, 1.0)
        others = tuple((Checkpoint(opened(name)), weight) for name, weight in weights.items())
        return Mean(((adapted, self.weight), *others))


class RevertStep(Step):
    """The layers between the first and the last go back to the base."""

    revert: Layers

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        return reverted(adapted, Checkpoint(base), self.revert.of(base))


class InterpolateStep(Step):
    """base + scale (adapted - base), layer group by layer group."""

    interpolate: GroupScales

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        layers = self.interpolate.of(base)
        by_group = scales_by_group(self.interpolate.scale, layers, base.weights)
        return interpolated(adapted, Checkpoint(base), Scale(1.0, by_group, layers))


class MaxForgettingStep(Step):
    """Of the trained vector as much as learns most and forgets no more than a limit, found on text kept for it.

    It becomes an `interpolate`, with a factor for each layer group.
    """

    max_forgetting: Annotated[float, Field(gt=0)]
    first: Annotated[int, Field(ge=0)] | None = None
    last: Annotated[int, Field(ge=0)] | None = None
    """The layer groups that are scaled apart; a third of the layers each, where it is not said."""

    def layers(self, depth: int) -> LayerRange:
        """The groups of a model's layers.

        Raises:
            SelectionError: they do not fit the depth.
        """
        third = max(1, depth // 3)
        first = self.first if self.first is not None else third
        return LayerRange(first, self.last if self.last is not None else min(third, depth - first), depth)

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        self.layers(num_layers(base.weights))
        return adapted


class InstructStep(Step):
    """instruct + scale (adapted - base)."""

    instruct: ModelName
    scale: Finite

    @property
    def models(self) -> Sequence[str]:
        return [self.instruct]

    @property
    def like(self) -> str | None:
        return self.instruct

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        return instructed(Checkpoint(opened(self.instruct)), adapted, Checkpoint(base), self.scale)


STEPS: dict[str, type[Step]] = {
    "vectors": VectorsStep,
    "soup": SoupStep,
    "revert": RevertStep,
    "interpolate": InterpolateStep,
    "max_forgetting": MaxForgettingStep,
    "instruct": InstructStep,
    "scale": ScaleStep,  # last: it is also the factor of another verb
}
"""A step's verb -> its form."""


def _verb(step: Any) -> str | None:
    if isinstance(step, Step):
        return next(verb for verb, form in STEPS.items() if type(step) is form)
    return next((verb for verb in STEPS if isinstance(step, dict) and verb in step), None)


if TYPE_CHECKING:
    AnyStep = Step
else:
    AnyStep = Annotated[Union[tuple(Annotated[form, Tag(verb)] for verb, form in STEPS.items())], Discriminator(_verb)]


def combination(
    steps: Sequence[Step], adapted: SourceModel, base: SourceModel, made_from: SourceModel | None = None
) -> Combination:
    """The steps as one combination in float32, with all that can be checked before it is computed.

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
