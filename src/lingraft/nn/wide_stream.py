"""A wider residual stream: K dimensions r beside the D of the base, x.

    norm     w x / s and r / s,  s^2 = (|x|^2 + |r|^2) / D + eps
    reads    W x + V r           queries, keys, values, gates, up projections, the head; V (A, K) is new
    writes   (W y, 0)            what the base writes leaves r as it is
    rows     (E_t, F_t)          F (tokens, K) is 0 for tokens of the base

Where r is 0, the model computes what the base computes. Modules that write into r are for others to add.
"""

from __future__ import annotations

from abc import abstractmethod
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lingraft.architectures import ATTENTION_LINEARS, FFN_LINEARS, GATE_UP, PRE_NORM, QKV
from lingraft.layer_groups import FFN, text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Wide(nn.Module):
    """A module of the base in a wider stream."""

    def __init__(self, base: Any, extra: int) -> None:
        super().__init__()
        self.base_layer, self.extra = base, extra

    @property
    def weight(self) -> Tensor:
        """That of the base."""
        weight: Tensor = self.base_layer.weight
        return weight

    @abstractmethod
    def plain(self) -> dict[str, Tensor]:
        """The parameters of the same module in a plain model that is as wide."""


class WideLinear(Wide):
    """Reads the stream: W x + b + V r."""

    def __init__(self, base: nn.Linear, extra: int) -> None:
        super().__init__(base, extra)
        self.wider = nn.Linear(extra, base.out_features, bias=False, device=base.weight.device)
        self.in_features, self.out_features = base.in_features + extra, base.out_features

    def forward(self, stream: Tensor) -> Tensor:
        x, r = stream.split([self.base_layer.in_features, self.extra], dim=-1)
        read: Tensor = self.base_layer(x) + self.wider(r)
        return read

    def plain(self) -> dict[str, Tensor]:
        weight = torch.cat([self.weight, self.wider.weight], dim=1)
        return {"weight": weight} if self.base_layer.bias is None else {"weight": weight, "bias": self.base_layer.bias}


class PaddedLinear(Wide):
    """Writes into the stream: (W y + b, 0)."""

    def forward(self, y: Tensor) -> Tensor:
        return pad(self.base_layer(y), (0, self.extra))

    def plain(self) -> dict[str, Tensor]:
        weight, bias = self.weight, self.base_layer.bias
        padded = {"weight": torch.cat([weight, weight.new_zeros(self.extra, weight.shape[1])])}
        return padded if bias is None else {**padded, "bias": torch.cat([bias, bias.new_zeros(self.extra)])}


class WideNorm(Wide):
    """w x / s and r / s. A plain norm divides by the root of the mean over D + K, and so has a smaller w."""

    def forward(self, stream: Tensor) -> Tensor:
        width = len(self.weight)
        x, r = stream.float().split([width, self.extra], dim=-1)
        square = x.pow(2).mean(-1, keepdim=True) + r.pow(2).sum(-1, keepdim=True) / width
        scale = torch.rsqrt(square + self.base_layer.variance_epsilon)
        return torch.cat([self.weight * (x * scale).to(stream.dtype), (r * scale).to(stream.dtype)], dim=-1)

    def plain(self) -> dict[str, Tensor]:
        width = len(self.weight)
        weight = torch.cat([self.weight, self.weight.new_ones(self.extra)])
        return {"weight": weight * (width / (width + self.extra)) ** 0.5}


class WideEmbedding(Wide):
    """(E_t, F_t) of each token t."""

    def __init__(self, base: nn.Embedding, extra: int) -> None:
        super().__init__(base, extra)
        self.wider = nn.Embedding.from_pretrained(base.weight.new_zeros(base.num_embeddings, extra), freeze=False)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.cat([self.base_layer(ids), self.wider(ids)], dim=-1)

    def plain(self) -> dict[str, Tensor]:
        return {"weight": torch.cat([self.weight, self.wider.weight], dim=1)}


def widen(model: PreTrainedModel, extra: int) -> None:
    """Give a model `extra` more dimensions, in place; V is drawn as the base's weights were, F is zero."""
    decoder: Any = model.get_decoder()
    model.set_output_embeddings(WideLinear(model.get_output_embeddings(), extra))
    model.set_input_embeddings(WideEmbedding(model.get_input_embeddings(), extra))  # type: ignore[arg-type]
    decoder.norm = WideNorm(decoder.norm, extra)
    for layer in decoder.layers:
        for norm in PRE_NORM:
            setattr(layer, norm, WideNorm(getattr(layer, norm), extra))
        for block, reads, writes in (
            (layer.self_attn, QKV, ATTENTION_LINEARS[-1]),
            (getattr(layer, FFN), GATE_UP, FFN_LINEARS[-1]),
        ):
            for name in reads:
                setattr(block, name, WideLinear(getattr(block, name), extra))
            setattr(block, writes, PaddedLinear(getattr(block, writes), extra))
    for module in model.modules():
        if isinstance(module, WideLinear):
            draw(module.wider.weight.data, model.config)


def draw(weight: Tensor, config: Any) -> None:
    """Draw weights as those of the base were before any training, in place."""
    weight.normal_(std=float(text_config(config).initializer_range))


def as_plain(model: PreTrainedModel) -> PreTrainedModel:
    """The plain model, of a `hidden_size` of D + K, that computes what a widened one computes.

    A tied head reads r too, so it becomes a matrix of its own.
    """
    width, extra = text_config(model.config).hidden_size, model.get_output_embeddings().extra
    wide = {name: module for name, module in model.named_modules() if isinstance(module, Wide)}
    weights = {f"{name}.{part}": tensor for name, module in wide.items() for part, tensor in module.plain().items()}
    others = {
        name: parameter
        for name, parameter in model.named_parameters()
        if not any(name.startswith(f"{place}.") for place in wide)
    }
    config = deepcopy(model.config)
    config.head_dim = getattr(config, "head_dim", None) or width // config.num_attention_heads
    config.hidden_size, config.rms_norm_eps = width + extra, config.rms_norm_eps * width / (width + extra)
    config.tie_word_embeddings = False
    plain: PreTrainedModel = type(model)(config).float()
    plain.load_state_dict({name: tensor.detach().float() for name, tensor in {**weights, **others}.items()})
    plain.generation_config = model.generation_config
    plain.eval()
    return plain
