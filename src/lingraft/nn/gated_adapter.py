"""A gated feed-forward block in parallel to a decoder layer's own, and a gate on the whole of it.

    y = mlp(x) + g(x) * W_o(act(W_g x) * W_i x)

(arXiv 2410.02744 §3). g is 1, sigmoid(w x) or ReLU(w x), with one w of size D a block and no bias;
the paper gives neither equation nor start of w, so this is our reading. The activation is that of
the base. W_o starts at zero, so that before the first step y = mlp(x).

The branch joins at the output of the feed-forward block, before any norm that follows there (Gemma
2 and 3, OLMo 2): so an adapter without a gate is a wider block, exactly, in every architecture.

This file goes as it is into models that are exported with their own code: it needs torch alone.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Watcher(Protocol):
    """Sees what passes through a block in training, and may add to its gradient."""

    def gate(self, logits: Tensor) -> Tensor:
        """W x, (B, T, 1), before the gate's activation."""

    def output(self, output: Tensor) -> Tensor:
        """What the block adds, (B, T, D)."""


class GatedAdapter(nn.Module):
    """g(x) * W_o(act(W_g x) * W_i x): (B, T, D) -> (B, T, D), with `rank` hidden units."""

    def __init__(self, width: int, rank: int, activation: Callable[[Tensor], Tensor], gate: str, **like: Any) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, rank, bias=False, **like)  # W_g
        self.up_proj = nn.Linear(width, rank, bias=False, **like)  # W_i
        self.down_proj = nn.Linear(rank, width, bias=False, **like)  # W_o
        self.block_gate = nn.Linear(width, 1, bias=False, **like) if gate != "none" else None  # w
        self.act_fn = activation
        self.gate = gate

    def init(self, how: str, depth: int) -> None:
        """Draw W_g, W_i and w from N(0, 2 / D), He's, or from N(0, 1 / (D depth)); set W_o to zero (§3)."""
        width = self.up_proj.in_features
        deviation = (2 / width if how == "he" else 1 / (width * depth)) ** 0.5
        for linear in (self.gate_proj, self.up_proj, self.block_gate):
            if linear is not None:
                nn.init.normal_(linear.weight, std=deviation)
        nn.init.zeros_(self.down_proj.weight)

    def gates(self, logits: Tensor) -> Tensor:
        """g(x) of w x."""
        return torch.relu(logits) if self.gate == "relu" else torch.sigmoid(logits)

    def forward(self, x: Tensor, watcher: Watcher | None = None) -> Tensor:
        output: Tensor = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
        if self.block_gate is not None:
            logits = self.block_gate(x)
            if watcher is not None:
                logits = watcher.gate(logits)
            output = self.gates(logits) * output
        return output if watcher is None else watcher.output(output)


def _add_adapter(ffn: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    added: Tensor = ffn.adapter(inputs[0])  # type: ignore[operator]
    return output + added


def add_adapter(ffn: nn.Module, adapter: GatedAdapter) -> None:
    """Let a block give what it gave and what the adapter adds; its own weights keep their names."""
    ffn.adapter = adapter
    ffn.register_forward_hook(_add_adapter)
