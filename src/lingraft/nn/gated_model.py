"""A language model, with its head or without, of any architecture, whose feed-forward blocks have gated adapters.

Its tensors have the names of the base's; those of the adapters lie under `mlp.adapter`. The config is
the base's, with `gated_adapter: {rank, gate}`, and a model type that begins with `gated_`.

This file goes as it is into models that are exported with their own code, beside gated_adapter.py.
"""

from functools import cache
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from .gated_adapter import GatedAdapter, add_adapter

GATED = "gated_"
"""What the model types begin with."""


@cache
def gated_classes(
    config_class: type[PretrainedConfig], *model_classes: type[PreTrainedModel], module: str = __name__
) -> tuple[Any, ...]:
    """The config and the models with adapters that belong to those of an architecture; `module` will name them."""
    named = {"__module__": module, "model_type": GATED + config_class.model_type}
    config = type(f"Gated{config_class.__name__}", (config_class,), named)
    return config, *(_gated(model_class, config, module) for model_class in model_classes)


def _gated(model_class: type[PreTrainedModel], config_class: type, module: str) -> type[PreTrainedModel]:
    def init(self: Any, config: Any) -> None:
        model_class.__init__(self, config)
        for layer in self.get_decoder().layers:
            ffn, settings = layer.mlp, config.gated_adapter
            like = {"dtype": ffn.up_proj.weight.dtype, "device": ffn.up_proj.weight.device}
            width = ffn.up_proj.in_features
            add_adapter(ffn, GatedAdapter(width, settings["rank"], ffn.act_fn, settings["gate"], **like))

    members = {"__module__": module, "config_class": config_class, "__init__": init}
    return type(f"Gated{model_class.__name__}", (model_class,), members)
