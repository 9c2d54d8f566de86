"""Where LoRA factors may lie: beside what a weight does most, or beside what the base's text needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

if TYPE_CHECKING:
    from lingraft.methods.base import Adaptation, TextToFit

ROWS = 4
"""Blocks that pass through the model at a time."""


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
    squares: dict[str, Tensor] = {}
    is_old: Tensor

    def add(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        with torch.autocast(inputs[0].device.type, enabled=False):
            x = inputs[0][is_old].float()
            squares[name] = squares.get(name, 0) + x.T @ x

    layers = {f"{number}": pair for number, pair in enumerate(_layers(adaptation))}
    hooks = [layer.register_forward_pre_hook(partial(add, name)) for name, (layer, _) in layers.items()]
    try:
        with torch.inference_mode():
            for rows, old in zip(text.blocks.split(ROWS), text.is_old.split(ROWS), strict=True):
                is_old = old
                adaptation.plain.get_decoder()(input_ids=rows, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    for name, (layer, adapter) in layers.items():
        down = layer.lora_A[adapter].weight
        directions = torch.linalg.eigh(squares[name].cpu().double()).eigenvectors[:, : len(down)].T.to(down)
        with torch.no_grad():
            down.copy_(directions * down.norm() / directions.norm())


def _layers(adaptation: Adaptation) -> list[tuple[Any, str]]:
    """LoRA layers of a model, each with the name of its adapter."""
    layers = [module for module in adaptation.model.modules() if isinstance(module, LoraLayer)]
    return [(layer, name) for layer in layers for name in layer.lora_A]
