"""The losses on gated adapters that are not the language model's: their gradient joins in backward.

    l1 = mean over blocks and tokens of the original distribution of |adapter output|_1 / D
    ce = mean over blocks and all tokens of the cross-entropy of the gate, original 0, new 1

loss_weight * (l1 or ce) is added to the loss of the language model (arXiv 2410.02744 §3). A block's term
depends on nothing but what the block gives, so its gradient is added where it arises: no activation
is collected, and the block may be computed again in backward (gradient checkpointing). What the
Trainer would do to a loss is done here: the mean is over the tokens of the whole optimizer step, all
micro-batches and processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


class _AddL1(torch.autograd.Function):
    """The identity; in backward sign(output) * weight (B, T, 1) is added."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(output, weight)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        output, weight = ctx.saved_tensors
        (gradient,) = gradients
        return torch.addcmul(gradient, output.sign(), weight).to(gradient.dtype), None  # summed wide, rounded once


class _AddCrossEntropy(torch.autograd.Function):
    """The identity; in backward (sigmoid(logits) - is_new) * weight is added, all (B, T, 1)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, is_new: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(logits, is_new, weight)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        logits, is_new, weight = ctx.saved_tensors
        added = (torch.sigmoid(logits.float()) - is_new) * weight
        return gradients[0] + added.to(gradients[0].dtype), None, None


@dataclass(frozen=True)
class Tokens:
    """The tokens of a micro-batch, (B, T, 1), and how much each counts for in the gradient of a step."""

    is_original: Tensor
    is_new: Tensor
    per_original: float
    """1 / tokens of the original distribution in the step, times what the loss is scaled by; 0 where there are none."""
    per_token: float
    """The same for all tokens."""


@dataclass
class LocalLoss:
    """What all blocks of a model share: which losses, how strong, and the tokens that are on their way."""

    loss_weight: float
    l1: bool
    cross_entropy: bool
    num_blocks: int
    sums: dict[str, Tensor] = field(default_factory=dict)
    """By loss the sum over blocks and tokens since they were cleared, and how many there were, as (2,)."""
    _tokens: Tokens | None = None
    _in_forward: bool = False

    @contextmanager
    def on(self, tokens: Tokens) -> Iterator[None]:
        """Within the block, forward and backward are of these tokens."""
        self._tokens, self._in_forward = tokens, True
        try:
            yield
        finally:
            self._tokens, self._in_forward = None, False

    def end_forward(self) -> None:
        """What is computed from now on is computed again, for backward, and counts no more."""
        self._in_forward = False

    def gate(self, logits: Tensor) -> Tensor:
        if self._tokens is None or not self.cross_entropy:
            return logits
        tokens = self._tokens
        if self._in_forward:
            losses = binary_cross_entropy_with_logits(logits.detach().float(), tokens.is_new.float(), reduction="none")
            self._add("ce", losses, tokens.is_new | tokens.is_original)
        weight = (tokens.is_new | tokens.is_original).float() * (self.loss_weight * tokens.per_token / self.num_blocks)
        added: Tensor = _AddCrossEntropy.apply(logits, tokens.is_new.float(), weight)  # type: ignore[no-untyped-call]
        return added

    def output(self, output: Tensor) -> Tensor:
        if self._tokens is None or not self.l1:
            return output
        tokens, width = self._tokens, output.shape[-1]
        if self._in_forward:
            size = torch.linalg.vector_norm(output.detach(), ord=1, dim=-1, keepdim=True, dtype=torch.float32)
            self._add("l1", size / width, tokens.is_original)
        weight = tokens.is_original * (self.loss_weight * tokens.per_original / (self.num_blocks * width))
        added: Tensor = _AddL1.apply(output, weight)  # type: ignore[no-untyped-call]
        return added

    def _add(self, name: str, losses: Tensor, mask: Tensor) -> None:
        sums = torch.stack([(losses * mask).sum(), mask.sum().float()])
        self.sums[name] = self.sums[name] + sums if name in self.sums else sums
