"""Weights of chosen layer groups trained as they are, the others frozen; what several methods share."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from lingraft.layer_groups import LayerGroup, depth, layer_group
from lingraft.methods.base import Adaptation, Method, adaptation

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class InFull(Method):
    """All weights of some layer groups train; no weight is added."""

    @abstractmethod
    def groups(self) -> frozenset[LayerGroup]:
        """The groups that train, of those that `layers` parts a model into."""

    def apply(self, model: PreTrainedModel) -> Adaptation:
        layers, groups = self.layers(depth(model.config)), self.groups()
        declared = {name for name, _ in model.named_parameters() if layer_group(name, layers) in groups}
        return adaptation(model, declared, {"plain": lambda: model})
