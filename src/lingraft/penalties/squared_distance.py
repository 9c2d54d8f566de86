"""lambda |theta - theta_0|^2 of weights, and its gradient, where theta is a parameter or the product of a LoRA pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lingraft.layer_groups import LayerGroup
from lingraft.penalties.trained import LowRank, gradient_of


@dataclass(frozen=True)
class InFull:
    """Trained weights and where they started; theta_0 is widened as it is read, never copied in float32."""

    group: LayerGroup
    weight: float
    pairs: Sequence[tuple[nn.Parameter, Tensor]]

    def add_gradient(self, scale: float) -> None:
        factor = 2 * self.weight * scale
        gradients = [gradient_of(parameter) for parameter, _ in self.pairs]
        torch._foreach_add_(gradients, [parameter.detach() for parameter, _ in self.pairs], alpha=factor)
        for gradient, (_, start) in zip(gradients, self.pairs, strict=True):  # one at a time on an accelerator
            gradient.sub_(start.to(gradient.device), alpha=factor)

    def value(self) -> Tensor:
        squares = [(parameter.detach() - start.to(parameter.device)).square_().sum() for parameter, start in self.pairs]
        return self.weight * torch.stack(squares).sum()


@dataclass(frozen=True)
class Product:
    """|s B A|^2, whose gradients are 2 s^2 (B A) A^T and 2 s^2 B^T (B A), by the small products of each side."""

    group: LayerGroup
    weight: float
    pair: LowRank

    def add_gradient(self, scale: float) -> None:
        down, up, scaling = self.pair.factors
        factor = 2 * self.weight * scale * scaling**2
        for own, gradient in (
            (up, up.detach() @ (down.detach() @ down.detach().T)),
            (down, (up.detach().T @ up.detach()) @ down.detach()),
        ):
            gradient_of(own).add_(gradient, alpha=factor)

    def value(self) -> Tensor:
        down, up, scaling = self.pair.factors
        inner = (up.detach().T @ up.detach()) * (down.detach() @ down.detach().T)  # (rank, rank)
        return self.weight * scaling**2 * inner.sum()
