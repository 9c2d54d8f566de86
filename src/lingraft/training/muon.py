"""Muon for matrices of the layers, AdamW for all else, as one optimizer (`training.optim: muon`)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lingraft.layer_groups import layer_index

if TYPE_CHECKING:
    from lingraft.training.graft_arguments import GraftArguments


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` for matrices W (A, B), `torch.optim.AdamW` for other parameters.

        M <- 0.95 M + 0.05 G
        W <- W - lr (0.2 sqrt(max(A, B)) orthogonal(0.05 G + 0.95 M) + weight_decay W)

    `orthogonal` makes all singular values nearly 1. The factor before it gives a step the root mean square of AdamW's,
    so that one learning rate serves both (arXiv 2502.16982 §2.2).
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, **adam: Any) -> None:
        """`groups` are those of torch.optim, each with `is_matrix`."""
        matrices, others = ([group for group in groups if group["is_matrix"] is kind] for kind in (True, False))
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, lr=lr, adjust_lr_fn="match_rms_adamw"))
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=lr, **adam))
        super().__init__([group for part in self._parts for group in part.param_groups], {"lr": lr})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step of both, on groups and state of the whole."""
        assert closure is None, "the Trainer gives none"
        for part in self._parts:
            is_matrix = isinstance(part, torch.optim.Muon)
            part.param_groups = [group for group in self.param_groups if group["is_matrix"] is is_matrix]
            part.state = self.state
            part.step()


def muon(model: nn.Module, arguments: GraftArguments, decayed: Collection[str]) -> Muon:
    """Muon with a recipe's settings; `decayed` are the names of the parameters that weight decay shrinks."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim == 2 and layer_index(name) is not None
            groups.setdefault((is_matrix, name in decayed), []).append(parameter)
    return Muon(
        [
            {"params": parameters, "is_matrix": is_matrix, "weight_decay": arguments.weight_decay if decays else 0.0}
            for (is_matrix, decays), parameters in groups.items()
        ],
        lr=arguments.learning_rate,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        eps=arguments.adam_epsilon,
    )
