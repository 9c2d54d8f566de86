"""Continued pretraining of all weights."""

from __future__ import annotations

from typing import Literal

from lingraft.layer_groups import LayerGroup
from lingraft.methods.full_rank import LayersInFull


class Full(LayersInFull):
    """Every weight of the language model trains; nothing is frozen.

        theta = argmin L(theta; new text),  from theta_0

    The baseline that learns most and forgets most (arXiv 2509.11414 §3.3, 2606.00284 §2.3,
    2410.02744 §4.1). Parts of a multimodal checkpoint outside its language model stay frozen.
    """

    name: Literal["full"] = "full"

    def groups(self) -> frozenset[LayerGroup]:
        return frozenset(LayerGroup) - {LayerGroup.OUTSIDE}
