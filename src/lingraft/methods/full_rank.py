"""Weights of chosen layer groups trained as they are, the others frozen; what several methods share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from lingraft.architectures import architecture_of
from lingraft.errors import SelectionError
from lingraft.layer_groups import LayerGroup, depth, is_router, layer_group
from lingraft.methods.base import Adaptation, Method, adaptation

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class InFull(Method):
    """All weights of some layer groups train, routers of experts aside; no weight is added."""

    @abstractmethod
    def groups(self) -> frozenset[LayerGroup]:
        """The groups that train, of those that `layers` parts a model into."""

    def trains_routers(self) -> bool:
        """Whether routers of experts train with the layers that they lie in."""
        return False

    def choose(self, names: Collection[str]) -> set[str]:
        """Which of the parameters of these groups train."""
        return set(names)

    def apply(self, model: PreTrainedModel) -> Adaptation:
        self.check(model.config)
        layers, groups, row = self.layers(depth(model.config)), self.groups(), architecture_of(model.config)
        names = [
            name
            for name, _ in model.named_parameters()
            if layer_group(name, layers) in groups and (self.trains_routers() or not is_router(name, row))
        ]
        return adaptation(model, self.choose(names), {"plain": lambda: model})


class LayersInFull(InFull):
    """As `InFull`, of methods that train layers.

    A router decides which experts a token goes through. Where it moves, old text takes other experts, also of layers
    that hardly changed; so routers stay frozen unless `router` is true.
    """

    router: bool = False

    def trains_routers(self) -> bool:
        return self.router

    def check(self, config: Any) -> None:
        if self.router and architecture_of(config).experts is None:
            raise SelectionError(f"router is true, and {config.model_type} has no experts; leave router out")
