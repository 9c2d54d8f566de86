"""New blocks in parallel to the feed-forward ones, the base frozen; what `adapters` and `neutral-residues` share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lingraft.architectures import architecture_of
from lingraft.errors import SelectionError
from lingraft.layer_groups import FFN, NOT_LANGUAGE_MODEL, depth, is_multimodal
from lingraft.methods.base import PAPER_TRAINING, Adaptation, Export, adaptation
from lingraft.methods.parameter_budget import Sized, feed_forward_blocks
from lingraft.nn import Gate, Init

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Loss = Literal["none", "l1", "ce", "l1+ce"]


class ParallelAdapters(Sized):
    """y = mlp(x) + g(x) W_o(act(W_g x) * W_i x) in every layer (arXiv 2410.02744 §3)."""

    training: ClassVar[Mapping[str, Any]] = {**PAPER_TRAINING, "learning_rate": 2e-4}
    frozen: ClassVar[Collection[str]] = ()
    """Modules of an adapter that do not train."""
    gate: Gate
    loss: Loss
    loss_weight: float = Field(0.01, ge=0)
    """What the local loss is multiplied by."""
    init: Init

    @model_validator(mode="after")
    def _gate_for_its_loss(self) -> ParallelAdapters:
        if self.gate == "none" and "ce" in self.loss:
            raise ValueError(
                f"loss '{self.loss}' trains a gate to tell old text from new, and gate 'none' is no gate; "
                "take gate sigmoid or relu, or loss l1 or none"
            )
        return self

    def check(self, config: Any) -> None:
        if not architecture_of(config).gated_adapters:
            raise SelectionError(
                f"'{self.name}' puts gated blocks beside feed-forward blocks of gate_proj, up_proj and down_proj; "
                f"those of {config.model_type} are others; take lora, layra or full"
            )

    def exports(self, config: Any) -> Sequence[Export]:
        from lingraft.nn.conversion import can_be_qwen2_moe

        if self.gate == "none":
            return ("wide-ffn", "remote-code")
        if self.gate == "sigmoid" and can_be_qwen2_moe(config):
            return ("qwen2-moe", "remote-code")
        return ("remote-code",)

    def apply(self, model: PreTrainedModel) -> Adaptation:
        from peft import PeftModel, get_peft_model

        from lingraft.nn.auxiliary_loss import LocalLoss
        from lingraft.nn.conversion import as_qwen2_moe, with_own_code, with_wide_ffn, with_wide_stream
        from lingraft.nn.peft_adapter import GatedAdapterConfig, GatedAdapterLayer

        self.check(model.config)
        num_layers, rank = depth(model.config), self._rank(model)
        self.prepare(model)
        config = GatedAdapterConfig(
            rank=rank,
            gate=self.gate,
            init=self.init,
            target_modules=[FFN],
            exclude_modules=NOT_LANGUAGE_MODEL if is_multimodal(model.config) else None,
            task_type="CAUSAL_LM",
        )
        local = (
            LocalLoss(self.loss_weight, "l1" in self.loss, "ce" in self.loss, num_layers)
            if self.loss != "none"
            else None
        )
        wrapped = get_peft_model(model, config)
        assert isinstance(wrapped, PeftModel)
        blocks = [module for module in wrapped.modules() if isinstance(module, GatedAdapterLayer)]
        assert len(blocks) == num_layers, f"{len(blocks)} adapters in {num_layers} layers"
        for block in blocks:
            block.local_loss = local
        added = (name for name, _ in wrapped.named_parameters() if ".gated_adapter." in name)
        declared = {name for name in added if not any(f".{frozen}." in name for frozen in self.frozen)}
        folds: dict[Export, Callable[[], PreTrainedModel]] = {
            "wide-ffn": lambda: with_wide_ffn(wrapped),
            "wider": lambda: with_wide_stream(wrapped),
            "qwen2-moe": lambda: as_qwen2_moe(wrapped),
            "remote-code": lambda: with_own_code(wrapped),
        }
        exports = {form: folds[form] for form in self.exports(model.config)}
        return adaptation(wrapped, declared, exports, adapter=wrapped, local_loss=local)

    def prepare(self, model: PreTrainedModel) -> None:
        """Change a model, in place, before blocks are put beside its own; it computes what it computed."""

    def _rank(self, model: PreTrainedModel) -> int:
        widths = [block.up_proj.in_features for block in feed_forward_blocks(model)]
        return self.solved_rank(model, 3 * sum(widths), sum(widths) if self.gate != "none" else 0)
