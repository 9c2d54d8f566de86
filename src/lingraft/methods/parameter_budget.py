"""Weights of a base, and the rank at which adapters add a given share of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from lingraft.errors import SelectionError
from lingraft.layer_groups import FFN, LayerGroup, LayerRange, depth, layer_group
from lingraft.methods.base import Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel


EXTRA_WEIGHTS = 0.20
"""Of all weights of the base (arXiv 2410.02744 §4.1)."""


class Sized(Method):
    """A method whose adapters are so large: a share of the base's weights, or a rank."""

    extra_parameters: float | None = Field(None, gt=0)
    """A share of all weights of the base; 0.20 where no rank is given."""
    rank: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _one_size(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("rank") is None:
            return {"extra_parameters": EXTRA_WEIGHTS, **values}
        if values.get("extra_parameters") is not None:
            raise ValueError("give either 'rank' or 'extra_parameters', from which the rank is solved")
        return values

    def solved_rank(self, model: PreTrainedModel, per_rank: int, fixed: int = 0) -> int:
        """The rank that was given, or that `solve_rank` finds."""
        if self.rank is not None:
            return self.rank
        assert self.extra_parameters is not None
        return solve_rank(model, self.extra_parameters, per_rank, fixed)


def feed_forward_blocks(model: PreTrainedModel) -> list[Any]:
    """The feed-forward block of every decoder layer, in order."""
    return [getattr(layer, FFN) for layer in model.get_decoder().layers]


def num_weights(model: PreTrainedModel) -> int:
    """Weights of the language model, a tied head counted once."""
    layers = LayerRange(first=1, last=0, depth=depth(model.config))
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return sum(size for name, size in sizes.items() if layer_group(name, layers) != LayerGroup.OUTSIDE)


def solve_rank(model: PreTrainedModel, extra_parameters: float, per_rank: int, fixed: int = 0) -> int:
    """The rank at which `fixed + rank * per_rank` is nearest to a share of all weights (arXiv 2410.02744 §4.1).

    Raises:
        SelectionError: it is below 1.
    """
    total = num_weights(model)
    rank = round((extra_parameters * total - fixed) / per_rank)
    if rank < 1:
        raise SelectionError(
            f"extra_parameters={extra_parameters:g} of {total:,} is less than rank 1, which has {fixed + per_rank:,} "
            f"parameters in this model; take at least {(fixed + per_rank) / total:.2g}"
        )
    return rank
