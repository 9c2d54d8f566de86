"""lambda |theta - theta_0|^2 of weights, and its gradient, where theta is a parameter or the product of a LoRA pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lingraft.layer_groups import LayerGroup


class Term(Protocol):
    """lambda |theta - theta_0|^2 of weights of one layer group."""

    @property
    def group(self) -> LayerGroup: ...

    def add_gradient(self, scale: float) -> None: ...

    def value(self) -> Tensor: ...


@dataclass(frozen=True)
class InFull:
    """Trained weights and where they started; theta_0 is widened as it is read, never copied in float32."""

    group: LayerGroup
    weight: float
    pairs: Sequence[tuple[nn.Parameter, Tensor]]

    def add_gradient(self, scale: float) -> None:
        factor = 2 * self.weight * scale
        gradients = [_gradient(parameter) for parameter, _ in self.pairs]
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
    layer: Any
    adapter: str

    @property
    def _factors(self) -> tuple[nn.Parameter, nn.Parameter, float]:
        down, up = self.layer.lora_A[self.adapter].weight, self.layer.lora_B[self.adapter].weight
        return down, up, float(self.layer.scaling[self.adapter])

    def add_gradient(self, scale: float) -> None:
        down, up, scaling = self._factors
        factor = 2 * self.weight * scale * scaling**2
        for own, gradient in (
            (up, up.detach() @ (down.detach() @ down.detach().T)),
            (down, (up.detach().T @ up.detach()) @ down.detach()),
        ):
            _gradient(own).add_(gradient, alpha=factor)

    def value(self) -> Tensor:
        down, up, scaling = self._factors
        inner = (up.detach().T @ up.detach()) * (down.detach() @ down.detach().T)  # (rank, rank)
        return self.weight * scaling**2 * inner.sum()


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@dataclass(frozen=True)
class Sum:
    """All terms of a model, as one `PenaltyTerm`."""

    terms: Sequence[Term]

    @torch.no_grad()
    def add_gradients(self, scale: float) -> None:
        for term in self.terms:
            term.add_gradient(scale)

    @torch.no_grad()
    def values(self) -> dict[str, float]:
        sums: dict[str, Tensor] = {}
        for term in self.terms:
            value = term.value()
            sums[term.group] = sums[term.group] + value if term.group in sums else value
        found: Mapping[str, Tensor] = {group: sums[group] for group in LayerGroup if group in sums}
        return {f"l2sp_{group}": float(value) for group, value in found.items()}
