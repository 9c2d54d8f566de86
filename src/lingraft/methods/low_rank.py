"""LoRA factors on the linears of chosen layers, through peft; what `lora`, `layra` and `lora-ffn` share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from lingraft.architectures import Architecture, architecture_of
from lingraft.layer_groups import (
    EMBEDDINGS,
    HEAD,
    LAYERS,
    NOT_LANGUAGE_MODEL,
    depth,
    is_multimodal,
    is_tied,
    layer_index,
    plain_name,
)
from lingraft.methods.base import Adaptation, Method, adaptation

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class LowRank(Method):
    """LoRA on linears of the first and last layers; embeddings and head full-rank, or frozen."""

    dropout: float
    embeddings: bool

    def linears(self, architecture: Architecture) -> Sequence[str]:
        """The linears of a layer that get factors, by the last part of their module names."""
        return architecture.linears

    @abstractmethod
    def factors(self, model: PreTrainedModel) -> tuple[int, float]:
        """Rank and alpha for a model."""

    def apply(self, model: PreTrainedModel) -> Adaptation:
        from peft import LoraConfig, PeftModel, get_peft_model

        self.check(model.config)
        layers, tied = self.layers(depth(model.config)), is_tied(model.config)
        named = self.linears(architecture_of(model.config))
        linears = {
            name
            for name, _ in model.named_modules()
            if name.rsplit(".", 1)[-1] in named and layer_index(name + ".") in layers.outer
        }
        rank, alpha = self.factors(model)
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=self.dropout,
            target_modules=list(named),
            layers_to_transform=layers.outer,
            layers_pattern=LAYERS,
            exclude_modules=NOT_LANGUAGE_MODEL if is_multimodal(model.config) else None,
            modules_to_save=_saved_modules(tied) if self.embeddings else None,
            ensure_weight_tying=tied and self.embeddings,
            task_type="CAUSAL_LM",
        )
        wrapped = get_peft_model(model, config)
        assert isinstance(wrapped, PeftModel)
        declared = {
            name
            for name, _ in wrapped.named_parameters()
            if ".modules_to_save." in name or (".lora_" in name and _module(name) in linears)
        }
        adapted = {_module(name) for name in declared if ".lora_" in name}
        assert adapted == linears, f"LoRA missed {sorted(linears - adapted)[:5]}"
        return adaptation(wrapped, declared, {"plain": lambda: _merge(wrapped)}, adapter=wrapped)


class FixedRank(LowRank):
    """LoRA of a rank that is given; settings of arXiv 2509.11414 §3.2."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)

    def factors(self, model: PreTrainedModel) -> tuple[int, float]:
        return self.rank, self.alpha


def _module(name: str) -> str:
    """The module that a LoRA factor adapts."""
    return plain_name(name).removesuffix(".weight")


def _saved_modules(tied: bool) -> list[str]:
    """Modules that train full-rank. A tied head is the embeddings, and follows them."""
    return [EMBEDDINGS] if tied else [EMBEDDINGS, HEAD]


def _merge(wrapped: PeftModel) -> PreTrainedModel:
    """W_0 + (alpha / rank) B A in float32, on the CPU."""
    merged = wrapped.cpu().float().merge_and_unload(safe_merge=True)
    merged.requires_grad_(False)
    if is_tied(merged.config):
        merged.tie_weights()
    return merged  # type: ignore[no-any-return]
