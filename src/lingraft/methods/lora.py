"""Low-rank adapters on every linear of every layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from lingraft.errors import SelectionError
from lingraft.layer_groups import text_config
from lingraft.methods.base import Adaptation
from lingraft.methods.low_rank import FixedRank

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Lora(FixedRank):
    """LoRA on every linear of every layer: W = W_0 + (alpha / rank) B A, with W_0 frozen.

    A is (rank, in), drawn at random; B is (out, rank), zero, so that training starts at the base.
    arXiv 2509.11414 §3.2, §3.3: rank 8, alpha 16, dropout 0.05. That paper trains embeddings and
    head full-rank with LayRA and does not say so of LoRA, arXiv 2412.13375 trains them in its LoRA
    stage: the switch `embeddings` decides, and the plan and the log say which it was.

    Two options keep the factors from what the base needs: `protected` from the largest singular triples of each W_0
    (OPLoRA, arXiv 2510.13003), and `init: null-space` lets A start where the base's own text has least (LoRA-Null,
    arXiv 2503.02659); that text is self-generated replay, or generated for this alone.
    """

    name: Literal["lora"] = "lora"
    embeddings: bool = False
    protected: int = Field(0, ge=0)
    """Singular triples of each weight that stay as they are."""
    init: Literal["random", "null-space"] = "random"
    """Of A."""

    @property
    def looks_at_text(self) -> bool:
        return self.init == "null-space"

    def check(self, config: Any) -> None:
        if not self.protected:
            return
        text = text_config(config)
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        narrowest = min(text.hidden_size, head * text.num_key_value_heads)
        if self.protected + self.rank > narrowest:
            raise SelectionError(
                f"protected={self.protected} and rank={self.rank}: the smallest weight has {narrowest} singular "
                f"triples; take protected + rank <= {narrowest}"
            )

    def apply(self, model: PreTrainedModel) -> Adaptation:
        from lingraft.methods.lora_subspaces import keep_triples, start_in_null_space

        adaptation = super().apply(model)
        if self.init == "null-space":
            adaptation = replace(adaptation, fit=partial(start_in_null_space, adaptation))
        if self.protected:
            adaptation = replace(adaptation, after_step=keep_triples(adaptation, self.protected))
        return adaptation
