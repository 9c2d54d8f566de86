"""`merge:` of a recipe: arithmetic on the trained model, step by step, without training.

Each step makes an expression of the one before, so that the whole list is one sum of checkpoints:
computed in one pass, in float32, and rounded once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import AfterValidator, Discriminator, Field, Tag

from lingraft.layer_groups import LayerRange, num_layers
from lingraft.recipe.section import Section

if TYPE_CHECKING:
    from lingraft.merging.expression import Expression
    from lingraft.merging.source_model import SourceModel


def absolute(model: str) -> str:
    """Return a model's folder as an absolute path, and a hub name unchanged."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


Finite = Annotated[float, Field(allow_inf_nan=False)]
Weight = Annotated[float, Field(gt=0)]
ModelName = Annotated[str, Field(min_length=1), AfterValidator(absolute)]
Open = Callable[[str], "SourceModel"]


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
    """One entry of `merge:`; its first key names its kind."""

    @property
    def models(self) -> Sequence[str]:
        """Names of the other models that the step needs."""
        return ()

    @property
    def are_vectors(self) -> bool:
        """Whether these models enter as vectors from the base, so that they must share it."""
        return False

    @property
    def like(self) -> str | None:
        """The model whose config, tokenizer and chat template the result has; None keeps those of the model before."""
        return None

    @abstractmethod
    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        """Return the expression that the step makes of `adapted`.

        Raises:
            SelectionError: layers or layer groups that the model does not have.
            ModelError: another model that cannot be had.
        """


class ScaleStep(Step):
    """base + scale (adapted - base). In the second stage of LayRA-series the base is the first stage's model."""

    scale: Finite

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        from lingraft.merging.expression import Checkpoint, language_vectors

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
        from lingraft.merging.expression import Checkpoint, Shifted, Vector

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
        from lingraft.merging.expression import Checkpoint, Mean

        weights = self.soup if isinstance(self.soup, dict) else dict.fromkeys(self.soup, 1.0)
        others = tuple((Checkpoint(opened(name)), weight) for name, weight in weights.items())
        return Mean(((adapted, self.weight), *others))


class RevertStep(Step):
    """The layers between the first and the last go back to the base."""

    revert: Layers

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        from lingraft.merging.expression import Checkpoint, reverted

        return reverted(adapted, Checkpoint(base), self.revert.of(base))


class InterpolateStep(Step):
    """base + scale (adapted - base), layer group by layer group."""

    interpolate: GroupScales

    def expression(self, adapted: Expression, base: SourceModel, opened: Open) -> Expression:
        from lingraft.merging.expression import Checkpoint, Scale, interpolated, scales_by_group

        layers = self.interpolate.of(base)
        by_group = scales_by_group(self.interpolate.scale, layers, base.weights)
        return interpolated(adapted, Checkpoint(base), Scale(1.0, by_group, layers))


class MaxForgettingStep(Step):
    """Scale the task vector so that learning is highest while forgetting stays within a limit, on the selection split.

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
        from lingraft.merging.expression import Checkpoint, instructed

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
