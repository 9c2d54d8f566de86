"""Source-shielded updates: of each matrix, the columns that old text needs most stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.architectures import architecture_of
from lingraft.errors import SelectionError
from lingraft.layer_groups import ROWS_ARE_TOKENS, LayerGroup, canonical_name, layer_index
from lingraft.methods.base import PAPER_TRAINING, Adaptation, TextToFit
from lingraft.methods.full_rank import LayersInFull
from lingraft.methods.inputs import sums_over_old

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class SourceShielded(LayersInFull):
    """All weights train, but for the half of each matrix that old text needs most (arXiv 2512.04844 §3).

        s_j = |x_j|_2 sum_i |W_ij|,      x over the tokens of old text
        W_ij = W_ij,0                    for the columns j of the highest s_j, `share` of all

    W (A, B) is a linear of a layer, x (B,) its input. Of norms and biases of layers the largest entries stay.
    Embeddings, head and final norm train, but for the rows of special tokens, such as marks of turns. The authors take
    500 texts of the base's languages; here it is what the base generates for replay, or, without replay, for this
    alone. What stays also has no weight decay. Settings of the authors: learning rate 5e-5, cosine, weight decay 0.01.
    """

    training: ClassVar[Mapping[str, Any]] = {
        **PAPER_TRAINING,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.01,
    }
    name: Literal["source-shielded"] = "source-shielded"
    share: float = Field(0.5, gt=0, lt=1)

    def groups(self) -> frozenset[LayerGroup]:
        return frozenset(LayerGroup) - {LayerGroup.OUTSIDE}

    def check(self, config: Any) -> None:
        super().check(config)
        if architecture_of(config).experts is not None:
            raise SelectionError(
                f"'{self.name}' scores columns by what comes in, and what comes into an expert of {config.model_type} "
                "is not the same for all; take lora, layra or full"
            )

    @property
    def looks_at_text(self) -> bool:
        return True

    def apply(self, model: PreTrainedModel) -> Adaptation:
        adaptation = super().apply(model)
        kept: list[_Kept] = []
        return replace(adaptation, fit=partial(_shield, model, self.share, kept), after_step=partial(_put_back, kept))


class _Kept:
    """Entries of a parameter that stay."""

    def __init__(self, parameter: nn.Parameter, index: tuple[Any, ...]) -> None:
        self.parameter, self.index = parameter, index
        self.values: Tensor = parameter.detach()[index].clone()
        parameter.register_hook(self._without)

    def _without(self, gradient: Tensor) -> Tensor:
        moved = gradient.clone()
        moved[self.index] = 0
        return moved


def _put_back(kept: list[_Kept]) -> None:
    """Undo what weight decay did."""
    import torch

    with torch.no_grad():
        for each in kept:
            each.parameter[each.index] = each.values


def _shield(model: PreTrainedModel, share: float, kept: list[_Kept], text: TextToFit) -> None:
    """Score the columns on old text, and keep the highest of each matrix."""
    import torch
    from torch import nn

    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and layer_index(f"{name}.") is not None
    }
    squares = sums_over_old(model, linears, text, lambda x: x.square().sum(dim=0))  # (B,) each
    for name, parameter in model.named_parameters():
        if canonical_name(name) in ROWS_ARE_TOKENS:
            rows = [token for token in text.special if token < len(parameter)]
            kept.append(_Kept(parameter, (torch.tensor(rows, dtype=torch.long),)))
        elif layer_index(name) is not None and parameter.requires_grad:
            size = parameter.detach().float().abs()
            module = name.rpartition(".")[0]
            scores = size.sum(dim=0) * squares[module].sqrt() if size.ndim == 2 else size
            columns = scores.topk(round(share * len(scores))).indices
            kept.append(_Kept(parameter, (..., columns)))
