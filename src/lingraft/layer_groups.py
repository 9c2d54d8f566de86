"""Parameter name -> layer group. The names of what a layer holds are in `architectures`.

A decoder's layers fall into three groups, first, middle and last (arXiv 2606.00284 §2.2, §4.1;
the (10, 2) of LayRA, arXiv 2509.11414 §3.2, is first=10, last=2). Beside them stand the
embeddings, the final norm and the head; a multimodal model's other parts are `outside`.
Every tensor lies in exactly one group.

Names are understood in every style in which a tensor can be met: as a file has it, in a live
model, wrapped by peft, and compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lingraft.architectures import ARCHITECTURES, Architecture, is_supported, unsupported
from lingraft.errors import ModelError, SelectionError

FFN = "mlp"
"""The feed-forward block of a decoder layer, which holds its linears and the activation `act_fn`."""

EXPERTS = f"{FFN}.experts"
"""The experts of a feed-forward block that has several."""

EMBEDDINGS = "embed_tokens"
HEAD = "lm_head"
ROWS_ARE_TOKENS = (f"{EMBEDDINGS}.weight", f"{HEAD}.weight")
"""Tensors with a row for each token, by `canonical_name`."""
LAYERS = "layers"
NOT_LANGUAGE_MODEL = r".*(vision_tower|multi_modal_projector).*"
"""Modules of a multimodal checkpoint that are not its language model, as a regular expression."""


class LayerGroup(StrEnum):
    """Where a tensor lies, in the order in which text passes through a model."""

    EMBEDDINGS = "embeddings"
    FIRST = "first"
    MIDDLE = "middle"
    LAST = "last"
    FINAL_NORM = "final_norm"
    HEAD = "head"
    OUTSIDE = "outside"


@dataclass(frozen=True)
class LayerRange:
    """The first `first` and the last `last` of `depth` layers; what lies between is the middle.

    Raises:
        SelectionError: a negative count, no layer at all, or more layers than the model has.
    """

    first: int
    last: int
    depth: int

    def __post_init__(self) -> None:
        if self.first < 0 or self.last < 0:
            raise SelectionError(
                f"first={self.first}, last={self.last}: a layer count cannot be negative; "
                f"the model has {self.depth} layers"
            )
        if self.first + self.last == 0:
            raise SelectionError(
                f"first=0, last=0 selects no layer; the model has {self.depth} layers, take at least one"
            )
        if self.first + self.last > self.depth:
            raise SelectionError(
                f"first={self.first} and last={self.last} are {self.first + self.last} layers, "
                f"but the model has {self.depth}; take first + last <= {self.depth}"
            )

    def group(self, layer: int) -> LayerGroup:
        """The group of the layer with this index, counted from 0."""
        if not 0 <= layer < self.depth:
            raise SelectionError(f"layer {layer}: the model has layers 0 to {self.depth - 1}")
        if layer < self.first:
            return LayerGroup.FIRST
        return LayerGroup.LAST if layer >= self.depth - self.last else LayerGroup.MIDDLE

    @property
    def outer(self) -> list[int]:
        """Indices of the first and last layers, in order."""
        return [*range(self.first), *range(self.depth - self.last, self.depth)]


_WRAPPERS = re.compile(
    r"_orig_mod\.|_fsdp_wrapped_module\.|^module\.|^base_model\.model\.|\.base_layer(?=\.)"
    r"|\.wider(?=\.)|\.modules_to_save\.[^.]+|\.original_module(?=\.)"
)
_LORA = re.compile(r"\.(lora_[A-Za-z_]+|lora_magnitude_vector)(\.(?!weight$)[^.]+)?(?=\.weight$|$)")
_LAYER = re.compile(rf"(?:^|\.){LAYERS}\.(\d+)\.")
_AROUND = re.compile(r"^((model|language_model)\.)+")
_OUTSIDE = re.compile(NOT_LANGUAGE_MODEL)


def plain_name(name: str) -> str:
    """The name that a parameter or module has in the plain model, whatever wraps it there.

    `base_model.model.model.embed_tokens.modules_to_save.default.weight` becomes
    `model.embed_tokens.weight`. A LoRA factor keeps the name of the linear that it adapts, and so do
    the columns of one that reads a wider residual stream.
    """
    name = _WRAPPERS.sub("", name)
    while _WRAPPERS.search(name):  # wrappers inside wrappers, such as peft in a compiled model
        name = _WRAPPERS.sub("", name)
    return _LORA.sub("", name)


def canonical_name(name: str) -> str:
    """`plain_name` without the modules around the decoder, which differ between files and versions.

    `language_model.model.layers.0.…` and `model.language_model.layers.0.…` are both `layers.0.…`.
    """
    return _AROUND.sub("", plain_name(name))


def is_adapter_factor(name: str) -> bool:
    """Whether a tensor is a LoRA factor, or the columns of a linear that read a wider residual stream; neither is a
    module of the base that was saved whole.
    """
    return _LORA.search(name) is not None or ".wider." in name


def layer_index(name: str) -> int | None:
    """The decoder layer of a tensor, counted from 0; `None` if it lies in no decoder layer."""
    if _OUTSIDE.match(name):
        return None
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def layer_group(name: str, layers: LayerRange) -> LayerGroup:
    """The one group that a tensor lies in.

    Raises:
        SelectionError: the name is of no layout that we know.
    """
    plain = plain_name(name)
    if _OUTSIDE.match(plain):
        return LayerGroup.OUTSIDE
    index = layer_index(plain)
    if index is not None:
        return layers.group(index)
    module = plain.removesuffix(".weight").removesuffix(".bias")
    last = module.rsplit(".", 1)[-1]
    group = {EMBEDDINGS: LayerGroup.EMBEDDINGS, "norm": LayerGroup.FINAL_NORM, HEAD: LayerGroup.HEAD}.get(last)
    if group is None:
        raise SelectionError(f"tensor '{name}' lies in no layer group; known are {', '.join(LayerGroup)}")
    return group


def is_router(name: str, architecture: Architecture) -> bool:
    """Whether a parameter scores experts, and so decides which of them a token goes through."""
    return architecture.experts is not None and f".{FFN}.{architecture.experts.router}." in name


def expert_parts(name: str, architecture: Architecture) -> tuple[str, tuple[str, ...]] | None:
    """Where a live parameter of all experts lies in files: the name of `experts`, and linears whose rows it holds.

    `layers.0.mlp.experts.gate_up_proj` is (`layers.0.mlp.experts`, (`gate_proj`, `up_proj`)); `None` for all others.
    """
    place, _, last = canonical_name(name).rpartition(".")
    if architecture.experts is None or not place.endswith(f".{EXPERTS}"):
        return None
    linears = architecture.experts.stacked.get(last)
    return (place, linears) if linears else None


def is_buffer(name: str) -> bool:
    """Whether a file's tensor is no weight: rotary frequencies that old checkpoints still hold."""
    return name.endswith(".rotary_emb.inv_freq")


def text_config(config: Any) -> Any:
    """The language model's part of a config (Gemma 3's multimodal config holds two).

    Raises:
        ModelError: an architecture that has no row.
    """
    if not is_supported(model_type := getattr(config, "model_type", None)):
        raise ModelError(unsupported(model_type))
    return config.get_text_config()


def is_base(config: Any) -> bool:
    """Whether a model of this config can be trained."""
    return config.model_type in ARCHITECTURES


def depth(config: Any) -> int:
    """Number of decoder layers."""
    return int(text_config(config).num_hidden_layers)


def num_layers(names: Iterable[str]) -> int:
    """Number of decoder layers of the model that has tensors of these names."""
    return 1 + max((index for name in names if (index := layer_index(name)) is not None), default=-1)


def is_tied(config: Any) -> bool:
    """Whether the head is the same tensor as the embeddings."""
    return bool(config.tie_word_embeddings)


def is_multimodal(config: Any) -> bool:
    """Whether the checkpoint has parts beside its language model."""
    return text_config(config) is not config
