"""What enters modules of a model on the base's own text, and what tells it from new text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from lingraft.methods.base import TextToFit

ROWS = 4
"""Blocks that pass through the model at a time."""
OLD_WEIGHT = 4.0
"""What an old token counts in the fit of w, where a new one counts 1."""
RIDGE = 1e-3
"""Of the mean square of an input."""


class OldFromNew:
    """A row w (D,) that tells old text from new by what enters a module: w x is near 1 on old text and near 0 on new.

    w = argmin  4 mean_old (w x - 1)^2 + mean_new (w x)^2 + ridge |w|^2
    """

    def __init__(self, width: int, device: torch.device) -> None:
        import torch

        self.square, self.linear = torch.zeros(width, width, device=device), torch.zeros(width, device=device)

    def add(self, x: Tensor, of_old: Tensor, of_new: Tensor) -> None:
        """Add tokens x (N, D) in float32, which count `of_old` in the mean over old text, and `of_new` (N,)."""
        self.square += (x * (OLD_WEIGHT * of_old + of_new)[:, None]).T @ x
        self.linear += OLD_WEIGHT * of_old @ x

    def row(self) -> Tensor:
        """W (D,), in float64 and on the CPU."""
        import torch

        square = self.square.cpu().double()
        ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
        row: Tensor = torch.linalg.solve(square + ridge, self.linear.cpu().double())
        return row


def shares(text: TextToFit) -> tuple[Tensor, Tensor]:
    """What each token counts in a mean over old text, and over new text, (N, T) each."""
    return text.is_old / text.is_old.sum(), text.is_new / text.is_new.sum().clamp(min=1)


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
