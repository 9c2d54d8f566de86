"""The first and last layers full-rank, the middle frozen."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lingraft.layer_groups import LayerGroup, LayerRange
from lingraft.methods.full_rank import LayersInFull


class Freeze(LayersInFull):
    """All weights of the first and last layers train; the middle stays as it is.

        W_l = W_l,0    for first <= l < L - last

    arXiv 2606.00284 §2.2: first 9, last 6 of 34 layers (Gemma 3 4B). It says that 44 % of the model
    trains, which is 15 of 34 layers, and nothing of embeddings and head; its authors' configurations
    train them, which here is `embeddings`. The final norm is frozen.
    """

    name: Literal["freeze"] = "freeze"
    first: int = Field(9, ge=0)
    last: int = Field(6, ge=0)
    embeddings: bool = False

    def layers(self, depth: int) -> LayerRange:
        return LayerRange(self.first, self.last, depth)

    def groups(self) -> frozenset[LayerGroup]:
        ends = {LayerGroup.EMBEDDINGS, LayerGroup.HEAD} if self.embeddings else set()
        return frozenset({LayerGroup.FIRST, LayerGroup.LAST} | ends)
