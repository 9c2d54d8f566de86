"""What trains of a base, parameter by parameter: how far it moved, and the way of a gradient back into training.

A method trains a weight theta of the base as it is, or through a LoRA pair. Both say theta - theta_0, of the shape of
theta, and take dL/dtheta. So a penalty on theta - theta_0 is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Trained(Protocol):
    """A weight theta of the base that training moves."""

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> nn.Parameter:
        """The weight in the model: at the base it is theta_0, whether it trains itself or not."""

    def moved(self) -> Tensor:
        """Theta - theta_0, of the shape of theta, on the device of the model."""

    def add_gradient(self, gradient: Tensor) -> None:
        """Add dL/dtheta to the gradients of what trains."""

    def pull(self, share: float) -> None:
        """Theta <- (1 - share) theta + share theta_0."""


@dataclass(frozen=True)
class FullRank:
    """A weight that trains as it is."""

    name: str
    weight: nn.Parameter
    start: Tensor
    """theta_0 in the type of its file, mapped and not loaded."""

    def moved(self) -> Tensor:
        return self.weight.detach() - self.start.to(self.weight.device)

    def add_gradient(self, gradient: Tensor) -> None:
        gradient_of(self.weight).add_(gradient)

    def pull(self, share: float) -> None:
        self.weight.data.lerp_(self.start.to(self.weight), share)


@dataclass(frozen=True)
class LowRank:
    """The weight of a linear with a LoRA pair: theta - theta_0 = s B A.

    dL/dB = s G A^T and dL/dA = s B^T G, where G = dL/dtheta.
    """

    name: str
    layer: Any
    """peft's `LoraLayer`."""
    adapter: str

    @property
    def weight(self) -> nn.Parameter:
        weight: nn.Parameter = self.layer.get_base_layer().weight
        return weight

    @property
    def factors(self) -> tuple[nn.Parameter, nn.Parameter, float]:
        """A (rank, in), B (out, rank) and s."""
        down, up = self.layer.lora_A[self.adapter].weight, self.layer.lora_B[self.adapter].weight
        return down, up, float(self.layer.scaling[self.adapter])

    def moved(self) -> Tensor:
        down, up, scaling = self.factors
        return scaling * (up.detach() @ down.detach())

    def add_gradient(self, gradient: Tensor) -> None:
        down, up, scaling = self.factors
        gradient_of(up).add_(gradient @ down.detach().T, alpha=scaling)
        gradient_of(down).add_(up.detach().T @ gradient, alpha=scaling)

    def pull(self, share: float) -> None:
        self.factors[1].data.mul_(1 - share)


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """The gradient of a parameter, zeros where it has none yet."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
