"""Adapters that add nothing on text of the base: their gates start closed there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lingraft.methods.base import Adaptation
from lingraft.methods.parallel_adapters import ParallelAdapters

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

OLD_WEIGHT = 4.0
"""What an old token counts in the fit of w, where a new one counts 1: an open gate on old text costs more."""
RIDGE = 1e-3
"""Of the mean square of an input."""
ROWS = 4
"""Blocks that pass through the model at a time."""


class SilentAdapters(ParallelAdapters):
    """A gated linear unit beside every feed-forward block, closed on the base's own text; the base is frozen.

        y = mlp(x) + W_o(act(W_g x) * W_i x),    W_g = W_He - closing 1 w^T
        w = argmin  4 mean_old (w x - 1)^2 + mean_new (w x)^2 + ridge |w|^2

    x (D,) is what enters the block, a row of W_g a hidden unit. On old text w x is near 1, so a unit's gate is near
    act(-16), which is nothing for SiLU and GELU; on new text it is near 0, and the unit is that of `adapters`. w is
    solved once, before the first step, from blocks of old text, what the base generates for replay, and of new text.
    All that was added trains.

    The idea is that of neutral residues, a gate that is shut on old text (arXiv 2410.02744 §3), but the gate starts
    there and is not learned, and lies in W_g, so that the trained model is a plain one with wider feed-forward blocks.
    """

    needs_replay: ClassVar[bool] = True
    name: Literal["silent-adapters"] = "silent-adapters"
    gate: Literal["none"] = "none"
    loss: Literal["none"] = "none"
    init: Literal["he"] = "he"
    closing: float = Field(16.0, ge=0)
    """How far the gates are closed on old text, before the activation; with 0 they are those of `adapters`."""

    def apply(self, model: PreTrainedModel) -> Adaptation:
        adaptation = super().apply(model)
        gates = frozenset(name for name in adaptation.trainable if ".gate_proj." in name)  # decay would open them
        return replace(adaptation, fit=partial(_close, adaptation, self.closing), without_decay=gates)


def _close(adaptation: Adaptation, closing: float, blocks: Tensor, is_old: Tensor, is_new: Tensor) -> None:
    """Solve w of every block, and take `closing` times it from each row of its W_g."""
    import torch

    from lingraft.nn.peft_adapter import GatedAdapterLayer

    layers = [module for module in adaptation.model.modules() if isinstance(module, GatedAdapterLayer)]
    weights = OLD_WEIGHT * is_old / is_old.sum() + is_new / is_new.sum().clamp(min=1)  # (N, T)
    moments = [_Moments(layer) for layer in layers]
    try:
        with torch.inference_mode():
            for rows, weight, old in zip(blocks.split(ROWS), weights.split(ROWS), is_old.split(ROWS), strict=True):
                for moment in moments:
                    moment.weight, moment.target = weight.flatten(), old.flatten().float()
                adaptation.plain.get_decoder()(input_ids=rows, use_cache=False)
    finally:
        for moment in moments:
            moment.hook.remove()
    for layer, moment in zip(layers, moments, strict=True):
        rows = layer.adapter.gate_proj.weight.data  # (rank, D)
        rows -= closing * moment.solution().to(rows)


class _Moments:
    """Sums over inputs x of a block, as they pass: weight x x^T (D, D), and weight target x (D,)."""

    weight: Tensor
    target: Tensor
    """Of the tokens that pass, (tokens,) each."""

    def __init__(self, layer: nn.Module) -> None:
        import torch

        weight: Tensor = layer.adapter.up_proj.weight  # type: ignore[union-attr, assignment]
        width = weight.shape[1]
        self.square = torch.zeros(width, width, device=weight.device)
        self.linear = torch.zeros(width, device=weight.device)
        self.hook = layer.register_forward_pre_hook(self._add)

    def _add(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        import torch

        with torch.autocast(inputs[0].device.type, enabled=False):
            x = inputs[0].flatten(0, -2).float()  # (tokens, D)
            weighted = x * self.weight[:, None]
            self.square += weighted.T @ x
            self.linear += weighted.T @ self.target

    def solution(self) -> Tensor:
        """The row w (D,)."""
        import torch

        square = self.square.cpu().double()
        ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
        row: Tensor = torch.linalg.solve(square + ridge, self.linear.cpu().double())
        return row
