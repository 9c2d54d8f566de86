"""Adapters that add nothing on text of the base: copies of its units, whose gates are closed there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from lingraft.architectures import architecture_of
from lingraft.errors import SelectionError
from lingraft.layer_groups import text_config
from lingraft.methods.base import PAPER_TRAINING, Adaptation, Export, TextToFit
from lingraft.methods.inputs import ROWS
from lingraft.methods.parallel_adapters import ParallelAdapters

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lingraft.nn.peft_adapter import GatedAdapterLayer

OLD_WEIGHT = 4.0
"""What an old token counts in the fit of w, where a new one counts 1: an open gate on old text costs more."""
RIDGE = 1e-3
"""Of the mean square of an input."""
UNSEEN = 4
"""Directions of first tokens that W_i does not see, where there are as many."""
SMALLEST = 1e-3
"""A direction is rounding whose singular value is a smaller part of the largest one."""


class SilentAdapters(ParallelAdapters):
    """Copies of a feed-forward block's own units beside it, closed on the base's own text; the base is frozen.

        y = mlp(x) + W_o(act(W_g x) * W_i x),    W_g = W_gate[S] - closing 1 w^T,    W_i = W_up[S] (1 - U U^T) at start
        w = argmin  4 mean_old (w x - 1)^2 + mean_new (w x)^2 + ridge |w|^2

    x (D,) is what enters the block, a row of W_g (R, D) a unit. S are the R units of the base that are most active on
    new text: by mean_new |act(W_gate x) * W_up x| times the norm of their column of W_down; their biases, where the
    base has any, are not copied. W_o (D, R) starts at zero. W_g is solved once, before the first step, from blocks of
    old text, what the base generates for replay, and of new text, and stays. On old text w x is near 1, so a gate is
    closing below that of the base, and act of it is nothing for SiLU and GELU; on new text w x is near 0, and the
    gate is that of the base.

    U (D, k), k at most 4, are the main directions of x on first tokens, of blocks of old text that begin with a mark of
    a document or a turn, and of all where none does; W_i is kept from them after each step. All later tokens attend to
    the first one, and what enters many blocks there is so short that w x cannot be near 1.

    With `extra_width` K the residual stream is (x, r), r (K,) (`nn/wide_stream.py`). The new units write into r by W_o
    (D + K, R), as new tokens do, and nothing of the base does, so that r is 0 on old text. W_i and all that reads the
    stream in the base, by V of its own, read r and train.

    The idea is that of neutral residues, a gate that is shut on old text (arXiv 2410.02744 §3), but the gate is not
    learned, and lies in W_g, so that the trained model is a plain one with wider feed-forward blocks.
    """

    training: ClassVar[Mapping[str, Any]] = {
        **PAPER_TRAINING,
        "optim": "muon",
        "learning_rate": 5e-3,
    }
    needs_replay: ClassVar[bool] = True
    frozen: ClassVar[Collection[str]] = ("gate_proj",)
    name: Literal["silent-adapters"] = "silent-adapters"
    gate: Literal["none"] = "none"
    loss: Literal["none"] = "none"
    init: Literal["he"] = "he"
    """Of units beyond as many as the base has."""
    closing: float = Field(20.0, ge=0)
    """How far the gates are closed on old text, before the activation; with 0 they are those of the base."""

    extra_width: int = Field(0, ge=0)
    """Dimensions that the residual stream gains, which only these units, and new tokens, write into."""

    @property
    def looks_at_text(self) -> bool:
        return True

    def check(self, config: Any) -> None:
        super().check(config)
        if not self.extra_width:
            return
        text, row = text_config(config), architecture_of(config)
        if not row.wide_stream:
            raise SelectionError(
                f"'{self.name}' with extra_width makes the residual stream wider, and that of {config.model_type} has "
                "norms that do not allow it; leave extra_width out, or take lora, layra or full"
            )
        if row.heads_divide_width and (text.hidden_size + self.extra_width) % text.num_attention_heads:
            raise SelectionError(
                f"extra_width {self.extra_width}: hidden_size {text.hidden_size} and extra_width together must be a "
                f"multiple of num_attention_heads ({text.num_attention_heads}), else transformers refuses the model"
            )

    def exports(self, config: Any) -> Sequence[Export]:
        return ("wider",) if self.extra_width else super().exports(config)

    def apply(self, model: PreTrainedModel) -> Adaptation:
        adaptation = super().apply(model)
        unseen: list[tuple[Tensor, Tensor]] = []
        fit = partial(_close, adaptation, self.closing, unseen)
        if self.extra_width:
            adaptation = _with_readers(adaptation, self.extra_width)
        return replace(adaptation, fit=fit, after_step=partial(_keep_from, unseen))

    def prepare(self, model: PreTrainedModel) -> None:
        if self.extra_width:
            from lingraft.nn.wide_stream import widen

            widen(model, self.extra_width)


def _with_readers(adaptation: Adaptation, extra: int) -> Adaptation:
    """Train what reads the new dimensions of the stream, too; adapters read them as the base's linears do, by W_i."""
    from lingraft.nn.wide_stream import WideLinear, draw

    readers = [module for module in adaptation.model.modules() if isinstance(module, WideLinear)]
    for reader in readers:
        reader.wider.weight.requires_grad_(True)
    for layer in _layers(adaptation):
        layer.adapter.gate_proj.weight.data[:, -extra:] = 0
        draw(layer.adapter.up_proj.weight.data[:, -extra:], adaptation.plain.config)
    names = [name for name, parameter in adaptation.model.named_parameters() if parameter.requires_grad]
    beside = {name: 0 for name in names if name.endswith(".wider.weight")}
    return replace(adaptation, trainable=tuple(names), rows=beside)


def _close(
    adaptation: Adaptation,
    closing: float,
    unseen: list[tuple[Tensor, Tensor]],
    text: TextToFit,
) -> None:
    """Find S, w and U of every block; copy the units, close their gates, and list each W_i with its U in `unseen`."""
    import torch

    layers = _layers(adaptation)
    of_old, of_new = text.is_old / text.is_old.sum(), text.is_new / text.is_new.sum().clamp(min=1)  # (N, T)
    parts, seen = (text.blocks, of_old, of_new, _begins(text)), [_Seen(layer) for layer in layers]
    try:
        with torch.inference_mode():
            for rows, *counts in zip(*(part.split(ROWS) for part in parts), strict=True):
                for each in seen:
                    each.old, each.new, each.begins = counts
                adaptation.plain.get_decoder()(input_ids=rows, use_cache=False)
    finally:
        for each in seen:
            each.hook.remove()
    for layer, each in zip(layers, seen, strict=True):
        base: Any = layer.base_layer
        gate, up = (getattr(layer.adapter, name).weight for name in ("gate_proj", "up_proj"))  # (R, D) each
        units = each.most_active(len(gate))
        width = base.up_proj.weight.shape[1]
        gate.data[: len(units), :width] = base.gate_proj.weight[units]
        up.data[: len(units), :width] = base.up_proj.weight[units]
        gate.data -= closing * each.solution().to(gate)
        unseen.append((up, each.directions_of_first_tokens().to(up)))
    _keep_from(unseen)


def _layers(adaptation: Adaptation) -> list[GatedAdapterLayer]:
    from lingraft.nn.peft_adapter import GatedAdapterLayer

    return [module for module in adaptation.model.modules() if isinstance(module, GatedAdapterLayer)]


def _begins(text: TextToFit) -> Tensor:
    """Blocks (N,) of old text that begin with a mark, and not in the middle of a text; all, where none does."""
    import torch

    is_mark = torch.isin(text.blocks[:, 0], torch.tensor(text.special, dtype=torch.long, device=text.blocks.device))
    begins = text.is_old[:, 0] & is_mark
    return begins if begins.any() else text.is_old[:, 0]


def _keep_from(unseen: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Take from each W_i (R, D) what it has along its U (D, k): W_i <- W_i (1 - U U^T)."""
    import torch

    for rows, directions in unseen:
        with torch.no_grad(), torch.autocast(rows.device.type, enabled=False):
            rows -= (rows @ directions) @ directions.T


class _Seen:
    """What passes through a block: means over tokens, and first tokens."""

    old: Tensor
    new: Tensor
    """What each token counts in the mean over old text, and over new text, (B, T) each."""
    begins: Tensor
    """Rows whose first token counts for U (B,)."""

    def __init__(self, layer: GatedAdapterLayer) -> None:
        import torch

        self.base = cast("Any", layer.base_layer)
        units, width = len(self.base.up_proj.weight), self.base.up_proj.in_features
        zeros = partial(torch.zeros, device=self.base.up_proj.weight.device)
        self.square, self.linear, self.activity = zeros(width, width), zeros(width), zeros(units)
        self.first: list[Tensor] = []
        self.hook = layer.register_forward_pre_hook(self._add)

    def _add(self, module: Any, inputs: tuple[Tensor, ...]) -> None:
        import torch

        active = self.base.act_fn(self.base.gate_proj(inputs[0])) * self.base.up_proj(inputs[0])
        with torch.autocast(inputs[0].device.type, enabled=False):
            x = inputs[0].float()  # (B, T, D)
            self.first.append(x[:, 0][self.begins])
            x, old, new = x.flatten(0, 1), self.old.flatten(), self.new.flatten()
            self.square += (x * (OLD_WEIGHT * old + new)[:, None]).T @ x
            self.linear += OLD_WEIGHT * old @ x
            self.activity += new @ active.flatten(0, -2).float().abs()

    def solution(self) -> Tensor:
        """The row w (D,)."""
        import torch

        square = self.square.cpu().double()
        ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
        row: Tensor = torch.linalg.solve(square + ridge, self.linear.cpu().double())
        return row

    def directions_of_first_tokens(self) -> Tensor:
        """U (D, k), of at most `UNSEEN` columns; of one alone where all blocks begin with the same token."""
        import torch

        found = torch.linalg.svd(torch.cat(self.first).cpu(), full_matrices=False)
        is_main = found.S[:UNSEEN] > SMALLEST * found.S[0]
        directions: Tensor = found.Vh[:UNSEEN][is_main].T
        return directions

    def most_active(self, count: int) -> Tensor:
        """The numbers of `count` units, in order; of all, where there are fewer."""
        share = self.activity * self.base.down_proj.weight.float().norm(dim=0)
        units: Tensor = share.topk(min(count, len(share))).indices
        return units.sort().values
