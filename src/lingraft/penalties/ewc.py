"""Elastic weight consolidation: a parameter is held at its start as firmly as the base's own text depends on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from lingraft.errors import SelectionError, TrainingError
from lingraft.layer_groups import LayerGroup, is_adapter_factor, layer_group
from lingraft.penalties.base import Penalty, PenaltyTerm

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lingraft.penalties.context import PenaltyContext
    from lingraft.penalties.trained import Trained

logger = logging.getLogger(__name__)

FISHER_BYTES = 4
"""Of a parameter: float32."""


class EWC(Penalty):
    """L = sum_i weight/2 F_i (theta_i - theta_i,0)^2, beside the loss (Kirkpatrick et al., arXiv 1612.00796 eq. 3).

    F is the diagonal of the base's Fisher information, per token. It is estimated on N = `num_blocks` blocks x_n that
    the base generates at temperature 1, each of T = `max_length` tokens of which the first is given:

        F_i = 1 / (N (T - 1)) sum_n (d ln p(x_n) / d theta_i)^2        nats^2 per token and unit^2 of theta_i

    The expectation is over the model's own distribution, so this is the true Fisher information and not the empirical
    one, whose expectation is over text of a corpus. Neither text nor labels of the old languages are needed.

    With weight 1, L is the KL divergence, in nats per token, of the base from the model that trains, on the base's own
    text: to second order, and without the terms off the diagonal.

    theta is the weight that the trained model will have: of a LoRA pair theta - theta_0 = s B A, and F is of the weight
    that it adapts, of its full shape. F is dense, so (F * s B A) does not factor: one product of the size of the weight
    is computed at a time. F needs 4 bytes on the device for each weight that trains or is adapted.
    """

    name: ClassVar[str] = "ewc"
    title: ClassVar[str] = "EWC"

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """lambda of the paper."""
    num_blocks: int = Field(32, ge=1)
    """Blocks of self-generated text that F is estimated on."""
    batch_size: int = Field(8, ge=1)
    """Blocks that are generated at a time; gradients are of one block each."""

    def memory(self, model: nn.Module) -> int:
        from peft.tuners.lora import LoraLayer

        trained = [
            parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and not is_adapter_factor(name)
        ]
        adapted = [module.get_base_layer().weight for module in model.modules() if isinstance(module, LoraLayer)]
        return sum(FISHER_BYTES * int(weight.numel()) for weight in (*trained, *adapted))

    def prepare(self, context: PenaltyContext) -> PenaltyTerm:
        """As every penalty's; estimates F, which takes about as long as generating the blocks.

        Raises:
            SelectionError: no parameter of the base trains.
            ModelError: the tokenizer has neither BOS nor EOS, so the base cannot generate text.
            TrainingError: a gradient is no number in the precision of training.
        """
        from lingraft.penalties.terms import Sum

        trained = list(context.trained())
        if not trained:
            raise SelectionError("ewc: the method trains no parameter of the base, so there is nothing to regularize")
        fisher = self.fisher(context, trained)
        groups = [layer_group(parameter.name, context.layers) for parameter in trained]
        terms = (_Term(*one, self.weight) for one in zip(groups, trained, fisher, strict=True))
        return Sum(self.name, list(terms))

    def fisher(self, context: PenaltyContext, trained: Sequence[Trained]) -> list[Tensor]:
        """F of each weight, float32, on the device of training; each process takes its share of the batches."""
        import torch
        from accelerate import PartialState
        from accelerate.utils import reduce

        started, processes = time.monotonic(), PartialState()
        with context.evaluating(), _differentiating(context.model, [parameter.weight for parameter in trained]):
            sums = [
                torch.zeros_like(parameter.weight, dtype=torch.float32, requires_grad=False) for parameter in trained
            ]
            hooks = [
                parameter.weight.register_post_accumulate_grad_hook(partial(_add_square, total))
                for parameter, total in zip(trained, sums, strict=True)
            ]
            for number, first in enumerate(range(0, self.num_blocks, self.batch_size)):
                if number % processes.num_processes == processes.process_index:
                    blocks = context.self_generated(min(self.batch_size, self.num_blocks - first), number)
                    for block in blocks.split(1):
                        _negative_log_likelihood(context, block).backward()
            for hook in hooks:
                hook.remove()
        count = self.num_blocks * (context.max_length - 1)
        found: list[Tensor] = [reduce(total, "sum").div_(count) for total in sums]
        for parameter, information in zip(trained, found, strict=True):
            if not information.isfinite().all():
                raise TrainingError(
                    f"ewc: the Fisher information of {parameter.name} is no finite number in this precision; "
                    "train in bf16 or float32, or remove penalties.ewc"
                )
        shown = (f"{sum(information.numel() for information in found):,}", self.num_blocks, time.monotonic() - started)
        logger.info("ewc: Fisher information of %s weights, on %d blocks that the base generated, in %.0f s", *shown)
        return found


@dataclass(frozen=True)
class _Term:
    """weight/2 sum F (theta - theta_0)^2 of one weight theta, whose gradient is weight F (theta - theta_0)."""

    group: LayerGroup
    trained: Trained
    fisher: Tensor
    weight: float

    def add_gradient(self, scale: float) -> None:
        self.trained.add_gradient(self.trained.moved().mul_(self.fisher).mul_(self.weight * scale))

    def value(self) -> Tensor:
        return self.trained.moved().square_().mul_(self.fisher).sum() * (self.weight / 2)


def _negative_log_likelihood(context: PenaltyContext, block: Tensor) -> Tensor:
    """-ln p of a block (1, T) after its first token, in nats; its logits exist a chunk at a time."""
    from lingraft.nn.chunked_cross_entropy import per_token_loss

    plain = context.adaptation.plain
    with context.precision(), per_token_loss(plain):
        loss: Tensor = plain(input_ids=block, labels=block).loss.sum()
    return loss


def _add_square(total: Tensor, weight: nn.Parameter) -> None:
    """Add the square of a gradient, and drop it: no more than one is held."""
    assert weight.grad is not None, "it was accumulated just now"
    gradient = weight.grad.float()
    total.addcmul_(gradient, gradient)
    weight.grad = None


@contextmanager
def _differentiating(model: nn.Module, weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the block these weights have gradients and no other has."""
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    for parameter in required:
        parameter.requires_grad_(False)
    for parameter in weights:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, was in required.items():
            parameter.requires_grad_(was)
