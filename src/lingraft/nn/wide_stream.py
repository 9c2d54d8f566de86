"""A wider residual stream: K dimensions r beside the D of the base, x.

    norm     w x / s and r / s,  s^2 = (|x|^2 + |r|^2) / D + eps
    reads    W x + V r           queries, keys, values, gates, up projections, the head; V (A, K) is new
    writes   (W y, 0)            the linears of the base leave r as it is
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
    def plain(self) -> nn.Module:
        """The base's module, made as wide, in place; it computes what this one computes."""


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

    def plain(self) -> nn.Module:
        own: nn.Linear = self.base_layer
        own.weight, own.in_features = _frozen(torch.cat([self.weight, self.wider.weight], dim=1)), self.in_features
        return own


class PaddedLinear(Wide):
    """Writes into the stream: (W y + b, 0)."""

    def forward(self, y: Tensor) -> Tensor:
        return pad(self.base_layer(y), (0, self.extra))

    def plain(self) -> nn.Module:
        own: nn.Linear = self.base_layer
        own.weight = _frozen(torch.cat([self.weight, self.weight.new_zeros(self.extra, own.in_features)]))
        if own.bias is not None:
            own.bias = _frozen(torch.cat([own.bias, own.bias.new_zeros(self.extra)]))
        own.out_features += self.extra
        return own


class WideNorm(Wide):
    """w x / s and r / s. A plain norm divides by the root of the mean over D + K, and so has a smaller w."""

    def forward(self, stream: Tensor) -> Tensor:
        width = len(self.weight)
        x, r = stream.float().split([width, self.extra], dim=-1)
        square = x.pow(2).mean(-1, keepdim=True) + r.pow(2).sum(-1, keepdim=True) / width
        scale = torch.rsqrt(square + self.base_layer.variance_epsilon)
        return torch.cat([self.weight * (x * scale).to(stream.dtype), (r * scale).to(stream.dtype)], dim=-1)

    def plain(self) -> nn.Module:
        own, share = self.base_layer, len(self.weight) / (len(self.weight) + self.extra)
        own.weight = _frozen(torch.cat([self.weight, self.weight.new_ones(self.extra)]) * share**0.5)
        return own  # type: ignore[no-any-return]


class WideEmbedding(Wide):
    """(E_t, F_t) of each token t."""

    def __init__(self, base: nn.Embedding, extra: int) -> None:
        super().__init__(base, extra)
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.wider = nn.Embedding(base.num_embeddings, extra, **like)  # type: ignore[arg-type]
        nn.init.zeros_(self.wider.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.cat([self.base_layer(ids), self.wider(ids)], dim=-1)

    def plain(self) -> nn.Module:
        own: nn.Embedding = self.base_layer
        own.weight = _frozen(torch.cat([self.weight, self.wider.weight], dim=1))
        own.embedding_dim += self.extra
        return own


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)


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


def make_plain(model: PreTrainedModel) -> None:
    """Make a widened model a plain one of a `hidden_size` of D + K, in place; it computes what it computed.

    A tied head reads r too, so it becomes a matrix of its own. The one eps of a config also serves norms of queries and
    keys (Qwen 3), for which it is then D / (D + K) of what it was.
    """
    width, extra = text_config(model.config).hidden_size, model.get_output_embeddings().extra
    for name, module in [each for each in model.named_modules() if isinstance(each[1], Wide)]:
        place, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(place), attribute, module.plain())
    config = deepcopy(model.config)
    config.head_dim = getattr(config, "head_dim", None) or width // config.num_attention_heads
    config.hidden_size, config.rms_norm_eps = width + extra, config.rms_norm_eps * width / (width + extra)
    config.tie_word_embeddings = False
    for norm in model.modules():
        if hasattr(norm, "variance_epsilon"):
            norm.variance_epsilon = config.rms_norm_eps
    model.config = config
