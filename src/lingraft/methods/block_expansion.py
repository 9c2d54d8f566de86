"""Block expansion: copies of layers between the base's own, which add nothing at first and alone train."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from lingraft.architectures import Architecture, architecture_of
from lingraft.errors import SelectionError
from lingraft.layer_groups import depth, is_router, layer_index, text_config
from lingraft.methods.base import PAPER_TRAINING, Adaptation, Export, Method, adaptation

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class BlockExpansion(Method):
    """A deeper model: `blocks` copies of layers, each after the layer that it is a copy of (arXiv 2401.02415 §3.2).

        h <- h + W_O attention(norm(h)),    h <- h + W_down act(norm(h)),    W_O = W_down = 0 at start

    Where a norm stands between a block and the residual stream (Gemma 2 and 3, OLMo 2 and 3), its scale is 0 at start
    in place of the weights: it would scale up whatever they make in their first step.

    The base's layers are parted into `blocks` groups of the same size; the last layer of each is copied. The copies
    train, routers of experts aside, and all else is frozen. The authors add 8 layers to the 32 of Llama 2 7B, and train
    them at 2e-4 on a cosine with 6 % warm-up and weight decay 0.1.
    """

    training: ClassVar[Mapping[str, Any]] = {
        **PAPER_TRAINING,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.06,
    }
    name: Literal["block-expansion"] = "block-expansion"
    blocks: int = Field(8, ge=1)

    def exports(self, config: Any) -> Sequence[Export]:
        return ("deeper",)

    def check(self, config: Any) -> None:
        if self.blocks > depth(config):
            raise SelectionError(f"blocks={self.blocks}: the model has {depth(config)} layers, and each is copied once")

    def apply(self, model: PreTrainedModel) -> Adaptation:
        self.check(model.config)
        copied = self._copied(depth(model.config))
        _insert(model, copied)
        _deepen(model, copied)
        added = {layer + number + 1 for number, layer in enumerate(copied)}
        row = architecture_of(model.config)
        declared = {
            name for name, _ in model.named_parameters() if layer_index(name) in added and not is_router(name, row)
        }

        def deeper() -> PreTrainedModel:
            _deepen(model, copied)  # the config may be the base's again
            return model

        return replace(adaptation(model, declared, {"deeper": deeper}), added_layers=frozenset(added))

    def _copied(self, layers: int) -> list[int]:
        """The last layer of each group, counted from 0."""
        return [round((number + 1) * layers / self.blocks) - 1 for number in range(self.blocks)]


def _insert(model: PreTrainedModel, copied: Sequence[int]) -> None:
    """Put a copy of each of these layers after it, which writes nothing."""
    from torch import nn

    layers: list[nn.Module] = []
    decoder: Any = model.get_decoder()
    row = architecture_of(model.config)
    for number, layer in enumerate(decoder.layers):
        layers += [layer, _silent_copy(layer, row)] if number in copied else [layer]
    for index, layer in enumerate(layers):
        for module in cast("Any", layer.modules()):
            if hasattr(module, "layer_idx"):  # where its keys and values lie in a cache
                module.layer_idx = index
    decoder.layers = nn.ModuleList(layers)


def _silent_copy(layer: nn.Module, row: Architecture) -> nn.Module:
    silent = copy.deepcopy(layer)
    for name, parameter in silent.named_parameters():
        last = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
        if last in row.writers:
            is_scale = last in row.norms and row.norms_add_one
            parameter.data.fill_(-1.0 if is_scale else 0.0)
    return silent


def _deepen(model: PreTrainedModel, copied: Sequence[int]) -> None:
    """Add the copies to the config of a base, and to its lists with an entry for each layer."""
    text, layers = text_config(model.config), len(cast("Any", model.get_decoder()).layers)
    if text.num_hidden_layers == layers:
        return
    for key, values in text.to_dict().items():
        if "layer" in key and isinstance(values, list) and len(values) == text.num_hidden_layers:
            setattr(text, key, [value for index, value in enumerate(values) for _ in range(1 + (index in copied))])
    text.num_hidden_layers = layers
