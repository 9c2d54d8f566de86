"""Low-rank adapters on every linear of every layer."""

from __future__ import annotations

from typing import Literal

from lingraft.methods.low_rank import FixedRank


class Lora(FixedRank):
    """LoRA on every linear of every layer: W = W_0 + (alpha / rank) B A, with W_0 frozen.

    A is (rank, in), drawn at random; B is (out, rank), zero, so that training starts at the base.
    arXiv 2509.11414 §3.2, §3.3: rank 8, alpha 16, dropout 0.05. That paper trains embeddings and
    head full-rank with LayRA and does not say so of LoRA, arXiv 2412.13375 trains them in its LoRA
    stage: the switch `embeddings` decides, and the plan and the log say which it was.
    """

    name: Literal["lora"] = "lora"
    embeddings: bool = False
