"""LayRA, layer-selective LoRA."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lingraft.layer_groups import LayerRange
from lingraft.methods.low_rank import FixedRank


class Layra(FixedRank):
    """LoRA on the first and last layers; embeddings and head full-rank; the middle stays frozen.

        W_l = W_l,0 + (alpha / rank) B_l A_l    for l < first or l >= L - last
        W_l = W_l,0                             in between

    The first layers read the source language, the last write it, and the middle, where a
    multilingual model reasons, is left as it was (arXiv 2509.11414 §2.2). Settings of §3.2:
    first 10, last 2, rank 8, alpha 16, dropout 0.05, on 32 layers (Llama 3.1 8B) and 28
    (Qwen 2.5 7B).
    """

    name: Literal["layra"] = "layra"
    first: int = Field(10, ge=0)
    last: int = Field(2, ge=0)
    embeddings: bool = True

    def layers(self, depth: int) -> LayerRange:
        return LayerRange(self.first, self.last, depth)
