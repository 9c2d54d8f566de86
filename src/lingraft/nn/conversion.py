"""From a model with adapters beside its feed-forward blocks to one that can be saved and loaded alone.

An adapter without a gate is a wider block, exactly:

    mlp(x) + W_o(act(W_g x) * W_i x) = [D, W_o] (act([G; W_g] x) * [U; W_i] x)

One with a sigmoid gate is a Qwen2-MoE block with one routed expert, whose share is always 1, and the
adapter as shared expert, whose gate is a sigmoid of one linear map. A ReLU gate has no native
twin: its model travels with its code.

In each of these forms the adapter has hidden units of zeros up to a multiple of 64: they add nothing, and the
width can be quantised in blocks and divided among devices, as that of the base can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lingraft.architectures import FFN_LINEARS, architecture_of
from lingraft.layer_groups import FFN
from lingraft.nn.gated_adapter import GatedAdapter, add_adapter
from lingraft.nn.remote_code import auto_map, gated_types
from lingraft.nn.wide_stream import make_plain

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


ALIGNMENT = 64
"""Of the width of an adapter that is written into a model."""
_LINEARS = tuple(zip(FFN_LINEARS, (0, 0, 1), strict=True))
"""Of a gated block, each with the axis of its weight along which the hidden units lie."""


def with_wide_ffn(wrapped: PeftModel) -> PreTrainedModel:
    """The base's own architecture, `intermediate_size` wider by the rank."""
    return _folded(*_apart(wrapped))


def with_wide_stream(wrapped: PeftModel) -> PreTrainedModel:
    """The base's own architecture, wider by the rank in `intermediate_size` and by what its stream gained in
    `hidden_size`.
    """
    model, pairs = _apart(wrapped)
    make_plain(model)
    return _folded(model, pairs)


def _folded(model: PreTrainedModel, pairs: Sequence[tuple[Any, GatedAdapter]]) -> PreTrainedModel:
    """The model, in place, with each adapter in its feed-forward block."""
    for ffn, adapter in pairs:
        for name, axis in _LINEARS:
            own, added = getattr(ffn, name), getattr(adapter, name)
            setattr(ffn, name, _widened(own, added.weight.detach(), axis))
        ffn.intermediate_size = ffn.up_proj.out_features
    model.config.get_text_config().intermediate_size = pairs[0][0].intermediate_size
    return model


def _widened(own: nn.Linear, added: Tensor, axis: int) -> nn.Linear:
    """A linear with more hidden units; those that are added have no bias."""
    weight = torch.cat([own.weight.detach(), added], dim=axis)
    both = nn.Linear(weight.shape[1], weight.shape[0], bias=own.bias is not None, dtype=weight.dtype)
    both.weight.data = weight
    if own.bias is not None:
        bias = own.bias.detach()
        both.bias.data = torch.cat([bias, bias.new_zeros(len(weight) - len(bias))])
    return both


def can_be_qwen2_moe(config: Any) -> bool:
    """Whether attention, norms and the rest of an architecture are those of Qwen2-MoE."""
    unless = architecture_of(config).qwen2_moe_unless
    return unless is not None and not any(getattr(config, key) for key in unless)


def as_qwen2_moe(wrapped: PeftModel) -> PreTrainedModel:
    """A Qwen2-MoE whose one expert is the block as it was, and whose shared expert is the adapter.

    Its head is a matrix of its own, also where that of the base is tied: llama.cpp knows no other Qwen2-MoE. Its query,
    key and value have biases, zero where the base has none: vLLM knows no other, and leaves missing ones unset.
    """
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    model, pairs = _apart(wrapped)
    was = model.config
    others = ("model_type", "architectures", "tie_word_embeddings")
    config = Qwen2MoeConfig(
        **{name: value for name, value in was.to_dict().items() if name not in others},
        tie_word_embeddings=False,
        num_experts=1,
        num_experts_per_tok=1,
        norm_topk_prob=False,
        moe_intermediate_size=was.intermediate_size,
        shared_expert_intermediate_size=pairs[0][1].up_proj.out_features,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        qkv_bias=True,
    )
    weights = {name: tensor for name, tensor in model.state_dict().items() if f".{FFN}." not in name}
    for i, (ffn, adapter) in enumerate(pairs):
        place = f"model.layers.{i}.{FFN}"
        assert adapter.block_gate is not None
        weights |= {
            f"{place}.gate.weight": torch.zeros(1, config.hidden_size),
            f"{place}.experts.gate_up_proj": torch.cat([ffn.gate_proj.weight, ffn.up_proj.weight])[None],
            f"{place}.experts.down_proj": ffn.down_proj.weight[None],
            f"{place}.shared_expert_gate.weight": adapter.block_gate.weight,
            **{f"{place}.shared_expert.{name}.weight": getattr(adapter, name).weight for name in FFN_LINEARS},
        }
    folded = Qwen2MoeForCausalLM(config)
    zeros = {name: torch.zeros_like(bias) for name, bias in folded.state_dict().items() if name.endswith("_proj.bias")}
    folded.load_state_dict({**zeros, **{name: tensor.detach() for name, tensor in weights.items()}})
    folded.generation_config = model.generation_config
    return folded.eval()  # type: ignore[no-any-return]


def with_own_code(wrapped: PeftModel) -> PreTrainedModel:
    """The base's architecture with adapters, to be saved with the code that computes them."""
    model, pairs = _apart(wrapped)
    config_class, model_class, body_class = gated_types(type(model.config))
    settings = {"rank": pairs[0][1].up_proj.out_features, "gate": pairs[0][1].gate}
    for ffn, adapter in pairs:
        add_adapter(ffn, adapter)
    values = {name: value for name, value in model.config.to_dict().items() if name != "model_type"}
    mapped = {"gated_adapter": settings, "auto_map": auto_map(config_class, model_class, body_class)}
    model.config = config_class.from_dict({**values, **mapped})
    model.__class__ = model_class
    return model


def _apart(wrapped: PeftModel) -> tuple[PreTrainedModel, list[tuple[Any, GatedAdapter]]]:
    """The plain model in float32 on the CPU; its feed-forward blocks in order, each with its adapter, filled up."""
    model: PreTrainedModel = wrapped.cpu().float().get_base_model()
    pairs = []
    for layer in model.get_decoder().layers:
        adapted = getattr(layer, FFN)
        setattr(layer, FFN, adapted.get_base_layer())
        pairs.append((getattr(layer, FFN), _filled_up(adapted.adapter)))
    model.requires_grad_(False)
    return model, pairs


def _filled_up(adapter: GatedAdapter) -> GatedAdapter:
    """The adapter, in place, with hidden units of zeros up to a multiple of `ALIGNMENT`."""
    missing = -adapter.up_proj.out_features % ALIGNMENT
    for name, axis in _LINEARS:
        own = getattr(adapter, name)
        rows, columns = own.weight.shape
        zeros = own.weight.new_zeros((missing, columns) if axis == 0 else (rows, missing))
        setattr(adapter, name, _widened(own, zeros, axis))
    return adapter
