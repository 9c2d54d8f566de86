"""Low-rank adapters on every linear of every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lingraft.layer_groups import LayerRange
from lingraft.methods.low_rank import LowRank

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Lora(LowRank):
    """LoRA on every linear of every layer: W = W_0 + (alpha / rank) B A, with W_0 frozen.

    A is (rank, in), drawn at random; B is (out, rank), zero, so that training starts at the base.
    arXiv 2509.11414 §3.2, §3.3: rank 8, alpha 16, dropout 0.05. That paper trains embeddings and
    head in full with LayRA and does not say so of LoRA, arXiv 2412.13375 trains them in its LoRA
    stage: the switch `embeddings` decides, and the plan and the log say which it was.
    """

    name: Literal["lora"] = "lora"
    rank: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)
    embeddings: bool = False

    def layers(self, depth: int) -> LayerRange:
        return LayerRange(first=depth, last=0, depth=depth)

    def factors(self, model: PreTrainedModel) -> tuple[int, float]:
        return self.rank, self.alpha
