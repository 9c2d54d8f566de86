"""Low-rank adapters on the feed-forward blocks, as large as the other ways of adding weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.architectures import Architecture, architecture_of
from lingraft.errors import SelectionError
from lingraft.methods.base import PAPER_TRAINING
from lingraft.methods.low_rank import LowRank
from lingraft.methods.parameter_budget import Sized, feed_forward_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LoraFfn(Sized, LowRank):
    """LoRA on the feed-forward linears of every layer: W = W_0 + (alpha / rank) B A, with W_0 frozen.

    The baseline of arXiv 2410.02744 §4.1, which puts all factors into the feed-forward blocks and
    takes the rank at which they are 20 % of the base's weights; learning rate 5e-5. It gives no alpha
    and no dropout: here alpha is the rank, so that B A is added as it is, and dropout 0.
    """

    name: Literal["lora-ffn"] = "lora-ffn"
    training: ClassVar[Mapping[str, Any]] = {**PAPER_TRAINING, "learning_rate": 5e-5}
    alpha: float | None = Field(None, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    embeddings: bool = False

    def linears(self, architecture: Architecture) -> Sequence[str]:
        return architecture.ffn

    def check(self, config: Any) -> None:
        if not architecture_of(config).ffn:
            raise SelectionError(
                f"'{self.name}' puts factors on the linears of feed-forward blocks, and {config.model_type} has none "
                "that LoRA can adapt; take lora or layra, which adapt its attention, or full"
            )

    def factors(self, model: PreTrainedModel) -> tuple[int, float]:
        rank = self.solved_rank(model, _weights_per_rank(model))
        return rank, self.alpha or float(rank)


def _weights_per_rank(model: PreTrainedModel) -> int:
    """Weights of A and B of all linears at rank 1."""
    named = architecture_of(model.config).ffn
    linears = [getattr(block, name) for block in feed_forward_blocks(model) for name in named]
    return sum(linear.in_features + linear.out_features for linear in linears)
