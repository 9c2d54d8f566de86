"""What enters modules of a model on the base's own text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from lingraft.methods.base import TextToFit

ROWS = 4
"""Blocks that pass through the model at a time."""


def sums_over_old(
    model: PreTrainedModel, modules: Mapping[str, nn.Module], text: TextToFit, of: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Name of a module -> `of` of its inputs on old tokens (tokens, D), in float32, summed over blocks."""
    import torch

    sums: dict[str, Tensor] = {}
    is_old: Tensor

    def add(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        with torch.autocast(inputs[0].device.type, enabled=False):
            sums[name] = sums.get(name, 0) + of(inputs[0][is_old].float())

    hooks = [module.register_forward_pre_hook(partial(add, name)) for name, module in modules.items()]
    try:
        with torch.inference_mode():
            for rows, old in zip(text.blocks.split(ROWS), text.is_old.split(ROWS), strict=True):
                is_old = old
                model.get_decoder()(input_ids=rows, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: tensor.clone() for name, tensor in sums.items()}  # which autograd may use
