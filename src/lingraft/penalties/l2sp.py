"""Layer-range L2-SP: trained weights are pulled to where they started, the middle layers most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from lingraft.checkpoints.mapped import MappedWeights
from lingraft.errors import SelectionError, nearest
from lingraft.layer_groups import LayerGroup, LayerRange, is_adapter_factor, layer_group, num_layers
from lingraft.penalties.base import Penalty, Pull

Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]

OUTER, MIDDLE = 0.001, 0.05
GROUPS = [group for group in LayerGroup if group != LayerGroup.OUTSIDE]


class L2SP(Penalty):
    """sum over layers l of lambda_l |theta_l - theta_l,0|^2, beside the loss.

    arXiv 2606.00284 §2.2: the first 9 and last 6 of 34 layers lambda 0.001, the middle 0.05. Embeddings,
    final norm and head are not spoken of there; here they have 0.001, unless `strength` says otherwise.

    The term is of the loss: its gradient 2 lambda_l (theta_l - theta_l,0) is clipped with the loss's and
    goes through the optimizer's moments. theta is the weight that the trained model will have: of a LoRA
    pair theta - theta_0 is scale * B A. What is frozen does not move and adds nothing; what a method adds
    beside the base's weights has no theta_0, and is free.
    """

    first: int = Field(9, ge=0)
    last: int = Field(6, ge=0)
    strength: dict[str, Strength] = {}  # noqa: RUF012 - pydantic copies defaults
    """lambda by layer group, where it is not the paper's."""

    @field_validator("strength")
    @classmethod
    def _known_groups(cls, strength: dict[str, float]) -> dict[str, float]:
        for group in strength:
            if group not in GROUPS:
                raise ValueError(
                    f"there is no layer group '{group}'{nearest(group, GROUPS)}; groups: {', '.join(GROUPS)}"
                )
        return strength

    def of(self, group: LayerGroup) -> float:
        """Lambda of a layer group."""
        return self.strength.get(group, MIDDLE if group == LayerGroup.MIDDLE else OUTER)

    def prepare(self, model: nn.Module, base: Path) -> Pull:
        from peft.tuners.lora import LoraLayer

        starts = MappedWeights(base)
        layers = LayerRange(self.first, self.last, num_layers(name for name, _ in model.named_parameters()))
        in_full: dict[LayerGroup, list[tuple[nn.Parameter, Tensor]]] = {}
        for name, parameter in model.named_parameters():
            is_the_bases = not is_adapter_factor(name) and starts.shape(name) == tuple(parameter.shape)
            if parameter.requires_grad and is_the_bases:
                in_full.setdefault(layer_group(name, layers), []).append((parameter, starts[name]))
        terms: list[_Term] = [_InFull(group, self.of(group), of) for group, of in in_full.items()]
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                group = layer_group(f"{name}.weight", layers)
                terms += [_Product(group, self.of(group), module, adapter) for adapter in module.lora_A]
        if not terms:
            raise SelectionError("l2sp: the method trains no weight of the base, so there is nothing to pull back")
        return _Sum(terms)


class _Term(Protocol):
    """lambda |theta - theta_0|^2 of weights of one layer group."""

    @property
    def group(self) -> LayerGroup: ...

    def add_gradient(self, scale: float) -> None: ...

    def value(self) -> Tensor: ...


@dataclass(frozen=True)
class _InFull:
    """Trained weights and where they started; theta_0 is widened as it is read, never copied in float32."""

    group: LayerGroup
    strength: float
    pairs: Sequence[tuple[nn.Parameter, Tensor]]

    def add_gradient(self, scale: float) -> None:
        factor = 2 * self.strength * scale
        gradients = [_gradient(parameter) for parameter, _ in self.pairs]
        torch._foreach_add_(gradients, [parameter.detach() for parameter, _ in self.pairs], alpha=factor)
        for gradient, (_, start) in zip(gradients, self.pairs, strict=True):  # one at a time on an accelerator
            gradient.sub_(start.to(gradient.device), alpha=factor)

    def value(self) -> Tensor:
        squares = [(parameter.detach() - start.to(parameter.device)).square_().sum() for parameter, start in self.pairs]
        return self.strength * torch.stack(squares).sum()


@dataclass(frozen=True)
class _Product:
    """|s B A|^2, whose gradients are 2 s^2 (B A) A^T and 2 s^2 B^T (B A), by the small products of each side."""

    group: LayerGroup
    strength: float
    layer: Any
    adapter: str

    @property
    def _factors(self) -> tuple[nn.Parameter, nn.Parameter, float]:
        down, up = self.layer.lora_A[self.adapter].weight, self.layer.lora_B[self.adapter].weight
        return down, up, float(self.layer.scaling[self.adapter])

    def add_gradient(self, scale: float) -> None:
        down, up, scaling = self._factors
        factor = 2 * self.strength * scale * scaling**2
        for own, gradient in (
            (up, up.detach() @ (down.detach() @ down.detach().T)),
            (down, (up.detach().T @ up.detach()) @ down.detach()),
        ):
            _gradient(own).add_(gradient, alpha=factor)

    def value(self) -> Tensor:
        down, up, scaling = self._factors
        inner = (up.detach().T @ up.detach()) * (down.detach() @ down.detach().T)  # (rank, rank)
        return self.strength * scaling**2 * inner.sum()


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@dataclass(frozen=True)
class _Sum:
    terms: Sequence[_Term]

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
