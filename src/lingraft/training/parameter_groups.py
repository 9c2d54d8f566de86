"""Parameters of an optimizer that have a learning rate of their own."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from lingraft.layer_groups import ROWS_ARE_TOKENS, canonical_name

logger = logging.getLogger(__name__)


def set_rate_of_embeddings(optimizer: torch.optim.Optimizer, model: nn.Module, rate: float) -> None:
    """Give embeddings and head the learning rate `rate`, in groups of their own after all others.

    The optimizer has taken no step, and its schedule multiplies the rate of each group.
    """
    of_tokens = {
        id(parameter) for name, parameter in model.named_parameters() if canonical_name(name) in ROWS_ARE_TOKENS
    }
    own: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        ours = [parameter for parameter in group["params"] if id(parameter) in of_tokens]
        if ours:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in of_tokens]
            own.append({**group, "params": ours, "lr": rate})
    if not own:
        logger.warning("embedding_learning_rate: neither embeddings nor head train, so it changes nothing")
    optimizer.param_groups.extend(own)
