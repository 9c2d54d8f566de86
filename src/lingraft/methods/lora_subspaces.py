"""Where LoRA factors may lie: beside what a weight does most, or beside what the base's text needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from lingraft.methods.inputs import sums_over_old

if TYPE_CHECKING:
    from lingraft.methods.base import Adaptation, TextToFit


def keep_triples(adaptation: Adaptation, count: int) -> Callable[[], None]:
    """Keep B A from the `count` largest singular triples (U_k, S_k, V_k) of each W_0; what to do after each step.

    B <- (1 - U_k U_k^T) B,    A <- A (1 - V_k V_k^T),    so that W_0 + s B A has these triples too
    (OPLoRA, arXiv 2510.13003: there the product is projected, and trained through the projection).
    """
    held: list[tuple[nn.Parameter, nn.Parameter, Tensor, Tensor]] = []
    for layer, adapter in _layers(adaptation):
        weight = layer.get_base_layer().weight
        down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
        if weight.is_meta:
            continue
        found = torch.linalg.svd(weight.detach().float(), full_matrices=False)
        held.append((down, up, found.Vh[:count].clone(), found.U[:, :count].clone()))

    def project() -> None:
        with torch.no_grad():
            for place, (down, up, right, left) in enumerate(held):
                right, left = right.to(down.device), left.to(up.device)
                held[place] = (down, up, right, left)  # moved once
                down.sub_((down @ right.T) @ right)
                up.sub_(left @ (left.T @ up))

    project()
    return project


def start_in_null_space(adaptation: Adaptation, text: TextToFit) -> None:
    """Turn A to the directions in which the base's own text has least, at the norm that it was drawn with.

    The rows of A (R, D) become eigenvectors of sum_old x x^T (D, D), of its R smallest eigenvalues (LoRA-Null,
    arXiv 2503.02659, which starts from the weight in these directions). It holds a matrix (D, D) for each linear.
    """
    layers = {f"{number}": pair for number, pair in enumerate(_layers(adaptation))}
    modules = {name: layer for name, (layer, _) in layers.items()}
    squares = sums_over_old(adaptation.plain, modules, text, lambda x: x.T @ x)
    for name, (layer, adapter) in layers.items():
        down = layer.lora_A[adapter].weight
        directions = torch.linalg.eigh(squares[name].cpu().double()).eigenvectors[:, : len(down)].T.to(down)
        with torch.no_grad():
            down.copy_(directions * down.norm() / directions.norm())


def _layers(adaptation: Adaptation) -> list[tuple[Any, str]]:
    """LoRA layers of a model, each with the name of its adapter."""
    layers = [module for module in adaptation.model.modules() if isinstance(module, LoraLayer)]
    return [(layer, name) for layer in layers for name in layer.lora_A]
