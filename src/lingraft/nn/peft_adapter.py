"""Gated adapters as peft knows adapters: a config, a layer, a tuner, under a type of our own.

Once this module is imported, `PeftModel.from_pretrained` reads what `save_pretrained` wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

from lingraft.nn import Gate, Init
from lingraft.nn.auxiliary_loss import LocalLoss
from lingraft.nn.gated_adapter import GatedAdapter

GATED_ADAPTER = "GATED_ADAPTER"
PREFIX = "gated_adapter"


@dataclass
class GatedAdapterConfig(PeftConfig):  # type: ignore[misc]
    """Adapters of `rank` hidden units beside the modules that `target_modules` names."""

    rank: int = 8
    gate: Gate = "relu"
    init: Init = "low-variance"
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = GATED_ADAPTER


class GatedAdapterLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A feed-forward block and what is added to it."""

    adapter_layer_names = (PREFIX,)
    other_param_names = ()

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.gated_adapter = nn.ModuleDict()
        self.local_loss: LocalLoss | None = None
        self.merged_adapters: list[str] = []

    def add(self, name: str, config: GatedAdapterConfig, depth: int) -> None:
        """Put an adapter in, of the block's own activation, type and device."""
        tuned: Any = self  # as peft's classes make it, which mypy does not see
        base = tuned.get_base_layer()
        weight = base.up_proj.weight
        like = {"device": weight.device, "dtype": weight.dtype}
        adapter = GatedAdapter(base.up_proj.in_features, config.rank, base.act_fn, config.gate, **like)
        adapter.init(config.init, depth)
        self.gated_adapter[name] = adapter
        tuned.set_adapter(tuned.active_adapters, inference_mode=config.inference_mode)

    @property
    def adapter(self) -> GatedAdapter:
        """The one that is in use."""
        (name,) = list(self.active_adapters)  # type: ignore[arg-type]
        return self.gated_adapter[str(name)]  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.base_layer(x)
        if self.disable_adapters or not self.active_adapters:
            return output
        adapter = self.adapter
        given = x if torch.is_autocast_enabled(x.device.type) else x.to(adapter.up_proj.weight.dtype)
        added: Tensor = adapter(given, self.local_loss)
        return output + added.to(output.dtype)


class GatedAdapterModel(BaseTuner):  # type: ignore[misc]
    """Puts the layers in."""

    prefix = PREFIX
    tuner_layer_cls = GatedAdapterLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - as peft has it

    def _create_and_replace(
        self,
        peft_config: GatedAdapterConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        layer: Any = target if isinstance(target, GatedAdapterLayer) else GatedAdapterLayer(target)
        if layer is not target:
            setattr(parent, target_name, layer)
            layer._active_adapter = adapter_name
        config: Any = self.model.config
        layer.add(adapter_name, peft_config, config.get_text_config().num_hidden_layers)


PEFT_TYPE_TO_CONFIG_MAPPING[GATED_ADAPTER] = GatedAdapterConfig
PEFT_TYPE_TO_TUNER_MAPPING[GATED_ADAPTER] = GatedAdapterModel
PEFT_TYPE_TO_PREFIX_MAPPING[GATED_ADAPTER] = PREFIX
