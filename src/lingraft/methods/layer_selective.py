"""The outermost layers, embeddings and head full-rank."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lingraft.layer_groups import LayerGroup, LayerRange
from lingraft.methods.full_rank import LayersInFull


class LayerSelective(LayersInFull):
    """All weights of the first and the last layer, of embeddings and head train; all else is frozen.

        W_l = W_l,0    for first <= l < L - last

    arXiv 2509.11414 §3.3: first 1, last 1; what LayRA is, without low rank, compared with.
    """

    name: Literal["layer-selective"] = "layer-selective"
    first: int = Field(1, ge=0)
    last: int = Field(1, ge=0)

    def layers(self, depth: int) -> LayerRange:
        return LayerRange(self.first, self.last, depth)

    def groups(self) -> frozenset[LayerGroup]:
        return frozenset({LayerGroup.EMBEDDINGS, LayerGroup.FIRST, LayerGroup.LAST, LayerGroup.HEAD})
