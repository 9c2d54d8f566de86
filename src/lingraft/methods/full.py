"""Continued pretraining of all weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lingraft.layer_groups import LayerGroup, LayerRange, depth, layer_group
from lingraft.methods.base import Adaptation, Method, adaptation

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Method):
    """Every weight of the language model trains; nothing is frozen.

        theta = argmin L(theta; new text),  from theta_0

    The baseline that learns most and forgets most (arXiv 2509.11414 §3.3, 2606.00284 §2.3,
    2410.02744 §4.1). Parts of a multimodal checkpoint outside its language model stay frozen.
    """

    name: Literal["full"] = "full"

    def layers(self, depth: int) -> LayerRange:
        return LayerRange(first=depth, last=0, depth=depth)

    def apply(self, model: PreTrainedModel) -> Adaptation:
        layers = self.layers(depth(model.config))
        names = [name for name, _ in model.named_parameters()]
        declared = {name for name in names if layer_group(name, layers) != LayerGroup.OUTSIDE}
        return adaptation(model, declared, merge=lambda: model)
