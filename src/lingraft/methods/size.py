"""Weights of a base, and the rank at which adapters add a given share of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lingraft.errors import SelectionError
from lingraft.layer_groups import LayerGroup, LayerRange, depth, layer_group

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def feed_forward_blocks(model: PreTrainedModel) -> list[Any]:
    """The feed-forward block of every decoder layer, in order."""
    return [layer.mlp for layer in model.get_decoder().layers]


def num_weights(model: PreTrainedModel) -> int:
    """Weights of the language model, a tied head counted once."""
    layers = LayerRange(first=1, last=0, depth=depth(model.config))
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return sum(size for name, size in sizes.items() if layer_group(name, layers) != LayerGroup.OUTSIDE)


def solve_rank(model: PreTrainedModel, extra_weights: float, per_rank: int, fixed: int = 0) -> int:
    """The rank at which `fixed + rank * per_rank` is nearest to a share of all weights (arXiv 2410.02744 §4.1).

    Raises:
        SelectionError: it is below 1.
    """
    total = num_weights(model)
    rank = round((extra_weights * total - fixed) / per_rank)
    if rank < 1:
        raise SelectionError(
            f"extra_weights={extra_weights:g} of {total:,} weights is less than rank 1, which is {fixed + per_rank:,} "
            f"weights in this model; take at least {(fixed + per_rank) / total:.2g}"
        )
    return rank
