"""Adapters that add nothing on text of the base: copies of its units, whose gates are closed there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from lingraft.methods.base import PAPER_TRAINING, Adaptation
from lingraft.methods.parallel_adapters import ParallelAdapters

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lingraft.nn.peft_adapter import GatedAdapterLayer

OLD_WEIGHT = 16.0
"""What an old token counts in the fit of w, where a new one counts 1: an open gate on old text costs more."""
PASSES = 3
"""Newton steps of the fit: in each, the old tokens count that the step before left below 1. All but the first one pass
old text alone."""
RIDGE = 1e-3
"""Of the mean square of an input."""
ROWS = 4
"""Blocks that pass through the model at a time."""


class SilentAdapters(ParallelAdapters):
    """Copies of a feed-forward block's own units beside it, closed on the base's own text; the base is frozen.

        y = mlp(x) + W_o(act(W_g x) * W_i x),    W_g = W_gate[S] - closing 1 w^T
        w = argmin  16 mean_old max(0, 1 - w x)^2 + mean_new (w x)^2 + ridge |w|^2

    x (D,) is what enters the block, a row of W_g (R, D) a unit. S are R units of the base that do much on new text
    and, closed, nothing on old text: those of the largest mean_new h - mean_old h, where h is |act(g) * W_up x| times
    the norm of the unit's column of W_down, and g is W_gate x on new text and W_gate x - closing w x on old text; in
    this mean_old the first tokens of blocks count as much as all others, since all later tokens attend to them. W_i
    starts as W_up[S], W_o (D, R) at zero, and both train. W_g is solved once, before the first step, from blocks of
    old text, what the base generates for replay, and of new text, and stays. On old text w x is 1 or more, so a
    unit's gate is near act(-closing), which is nothing for SiLU and GELU; on new text w x is near 0, and the gate is
    that of the base.

    The idea is that of neutral residues, a gate that is shut on old text (arXiv 2410.02744 §3), but the gate is not
    learned, and lies in W_g, so that the trained model is a plain one with wider feed-forward blocks.
    """

    training: ClassVar[Mapping[str, Any]] = {**PAPER_TRAINING, "learning_rate": 5e-3, "optim": "muon"}
    needs_replay: ClassVar[bool] = True
    frozen: ClassVar[Collection[str]] = ("gate_proj",)
    name: Literal["silent-adapters"] = "silent-adapters"
    gate: Literal["none"] = "none"
    loss: Literal["none"] = "none"
    init: Literal["he"] = "he"
    """Of units beyond as many as the base has."""
    closing: float = Field(24.0, ge=0)
    """How far the gates are closed on old text, before the activation; with 0 they are those of the base."""

    def apply(self, model: PreTrainedModel) -> Adaptation:
        adaptation = super().apply(model)
        return replace(adaptation, fit=partial(_close, adaptation, self.closing))


def _close(adaptation: Adaptation, closing: float, blocks: Tensor, is_old: Tensor, is_new: Tensor) -> None:
    """Choose S and solve w of every block; copy the units, and take `closing` times w from each row of W_g."""
    import torch

    from lingraft.nn.peft_adapter import GatedAdapterLayer

    layers = [module for module in adaptation.model.modules() if isinstance(module, GatedAdapterLayer)]
    is_first = torch.zeros_like(is_old)
    is_first[:, 0] = is_old[:, 0]
    counts, has_old = [_share(are) for are in (is_old, is_first, is_new)], is_old.any(1)  # (N, T)
    sums = [_Sums(layer, closing) for layer in layers]
    try:
        with torch.inference_mode():
            for number in range(PASSES):
                passing = has_old if number else torch.ones_like(has_old)
                for rows, *counted in zip(*(each[passing].split(ROWS) for each in (blocks, *counts)), strict=True):
                    for each in sums:
                        each.old, each.first, each.new = (count.flatten() for count in counted)
                    adaptation.plain.get_decoder()(input_ids=rows, use_cache=False)
                for each in sums:
                    each.solve()
    finally:
        for each in sums:
            each.hook.remove()
    for layer, each in zip(layers, sums, strict=True):
        base: Any = layer.base_layer
        adapter: Any = layer.adapter
        units = each.best(adapter.up_proj.out_features)
        for name in ("gate_proj", "up_proj"):
            getattr(adapter, name).weight.data[: len(units)] = getattr(base, name).weight[units]
        adapter.gate_proj.weight.data -= closing * each.row.to(adapter.gate_proj.weight)


def _share(are: Tensor) -> Tensor:
    """What each of these tokens counts in their mean."""
    return are / are.sum().clamp(min=1)


class _Sums:
    """What passes through a block, summed up over tokens; and w."""

    old: Tensor
    first: Tensor
    new: Tensor
    """What each token counts in the mean over old text, over its first tokens, and over new text, (tokens,) each."""

    def __init__(self, layer: GatedAdapterLayer, closing: float) -> None:
        import torch

        self.closing = closing
        self.base = cast("Any", layer.base_layer)
        units, width = self.base.up_proj.weight.shape
        zeros = partial(torch.zeros, device=self.base.up_proj.weight.device)
        self.on_new: Tensor = zeros(units)
        self.on_old: Tensor = zeros(units)
        self.old_square, self.new_square, self.linear = zeros(width, width), zeros(width, width), zeros(width)
        self.row: Tensor = zeros(width)
        self.is_solved = False
        self.hook = layer.register_forward_pre_hook(self._add)

    def _add(self, module: Any, inputs: tuple[Tensor, ...]) -> None:
        import torch

        gates, up = (linear(inputs[0]).flatten(0, -2) for linear in (self.base.gate_proj, self.base.up_proj))
        with torch.autocast(inputs[0].device.type, enabled=False):
            x = inputs[0].flatten(0, -2).float()  # (tokens, D)
            at = x @ self.row  # (tokens,)
            below = self.old * (at < 1)
            self.old_square += (x * below[:, None]).T @ x
            self.linear += below @ x
            does = (
                (self.base.act_fn(gates - (self.closing * at[:, None]).to(gates)) * up).abs().float()
            )  # (tokens, units)
            if self.is_solved:
                self.on_old += (self.old + self.first) @ does / (2 * (PASSES - 1))
            else:
                self.new_square += (x * self.new[:, None]).T @ x
                self.on_new += self.new @ does

    def solve(self) -> None:
        """Set w (D,), and begin anew with old text."""
        import torch

        square = (OLD_WEIGHT * self.old_square + self.new_square).cpu().double()
        ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
        self.row = torch.linalg.solve(square + ridge, OLD_WEIGHT * self.linear.cpu().double()).to(self.row)
        self.old_square.zero_()
        self.linear.zero_()
        self.is_solved = True

    def best(self, count: int) -> Tensor:
        """The numbers of `count` units, in order; of all, where there are fewer."""
        norms = self.base.down_proj.weight.float().norm(dim=0)
        does = (self.on_new - self.on_old) * norms
        units: Tensor = does.topk(min(count, len(does))).indices
        return units.sort().values
