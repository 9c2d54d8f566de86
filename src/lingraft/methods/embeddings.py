"""Embeddings and head alone."""

from __future__ import annotations

from typing import Literal

from lingraft.layer_groups import LayerGroup
from lingraft.methods.full_rank import InFull


class Embeddings(InFull):
    """Embeddings and head train; every layer is frozen. A tied head is the embeddings.

        E, H = argmin L(E, H; bilingual text),  all W_l = W_l,0

    The alignment stage of arXiv 2412.13375, after new tokens have come in, by next-token prediction on text
    in both languages.
    """

    name: Literal["embeddings"] = "embeddings"

    def groups(self) -> frozenset[LayerGroup]:
        return frozenset({LayerGroup.EMBEDDINGS, LayerGroup.HEAD})
