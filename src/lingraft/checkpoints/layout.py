"""The tensors that a config asks for, and whether a model's files hold them: names, layers, rows and widths.

All decoders that we know share the layout of Llama (`layer_groups`); they differ in norms and biases. What a model
does not read may lie in its files: a head that is the embeddings once more, rotary frequencies, scales of a cache,
and in a multimodal checkpoint everything beside the language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from lingraft.checkpoints.config import CONFIG
from lingraft.checkpoints.settings import GATED, Settings
from lingraft.checkpoints.weights import Weights
from lingraft.errors import ModelError
from lingraft.layer_groups import (
    ATTENTION_LINEARS,
    EMBEDDINGS,
    FFN_LINEARS,
    HEAD,
    LAYERS,
    canonical_name,
    layer_index,
    num_layers,
)

Shape = tuple[int, ...]
_AROUND = ("input", "post_attention")
_SANDWICH = ("input", "post_attention", "pre_feedforward", "post_feedforward")


@dataclass(frozen=True)
class Layout:
    """How an architecture's layers differ from Llama's."""

    norms: tuple[str, ...] = _AROUND
    """Norms of the residual stream."""
    query_norm: Literal["head", "all"] | None = None
    """Norms of queries and keys: one head wide, or as wide as all heads."""
    biases: tuple[str, ...] = ()
    """Linears that have one whatever the config says."""
    bias_switches: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"attention_bias": ATTENTION_LINEARS})
    """Key of the config, off by default -> linears that have a bias where it is on."""
    default_head: bool = False
    """Whether heads have a width of the architecture's own where the config says none."""


LAYOUTS: Mapping[str, Layout] = {
    "llama": Layout(bias_switches={"attention_bias": ATTENTION_LINEARS, "mlp_bias": FFN_LINEARS}),
    "mistral": Layout(bias_switches={}),
    "qwen2": Layout(biases=("q_proj", "k_proj", "v_proj"), bias_switches={}),
    "qwen3": Layout(query_norm="head", default_head=True),
    "gemma": Layout(default_head=True),
    "gemma2": Layout(norms=_SANDWICH, default_head=True),
    "gemma3_text": Layout(norms=_SANDWICH, query_norm="head", default_head=True),
    "olmo2": Layout(norms=("post_attention", "post_feedforward"), query_norm="all"),
}
"""By `model_type` of the language model."""


def check_layout(folder: Path, config: Mapping[str, Any], weights: Weights) -> None:
    """Refuse files that do not hold the model of a config; `weights` by any style of names.

    Raises:
        ModelError: another number of layers, tensors that are missing, of other shapes, or that the model would ignore.
    """
    settings = Settings(folder, config)
    held = {canonical_name(name): tensor for name, tensor in weights.items()}
    _check_layers(folder, settings, num_layers(held))
    if settings.model_type not in LAYOUTS:
        return  # transformers holds what else we export to its own layout
    wanted = _tensors(settings)
    missing = next((name for name in wanted if name not in held and name != f"{HEAD}.weight"), None)
    if missing is None and f"{HEAD}.weight" not in held and not _is_tied(config, settings):
        missing = f"{HEAD}.weight"
    if missing:
        raise ModelError(f"{folder}: the weights are not all there: '{missing}' is missing; fetch the model again")
    for name, tensor in held.items():
        if name not in wanted:
            if layer_index(name) is not None and name.endswith((".weight", ".bias")) and not _is_added(config, name):
                raise ModelError(
                    f"{folder}: the files hold '{tensor.name}', which the model of {CONFIG} does not have and would "
                    "ignore; one of them belongs to another model"
                )
        elif tensor.shape != wanted[name]:
            raise ModelError(
                f"{folder}: '{tensor.name}' in {tensor.file.name} has shape {list(tensor.shape)}, {CONFIG} makes it "
                f"{list(wanted[name])}; they belong to different models, fetch both again"
            )


def _check_layers(folder: Path, settings: Settings, found: int) -> None:
    """Before names are made for as many layers as a config asks for."""
    if found != (wanted := int(settings["num_hidden_layers"])):
        raise ModelError(
            f"{folder}: {CONFIG} has num_hidden_layers {wanted:,}, the files hold {found:,} layers; "
            "they belong to different models, or tensors are missing: fetch both again"
        )


def _is_tied(config: Mapping[str, Any], settings: Settings) -> bool:
    stated = config.get("tie_word_embeddings")
    return bool(settings["tie_word_embeddings"] if stated is None else stated)


def _is_added(config: Mapping[str, Any], name: str) -> bool:
    """Adapters of a model that we exported with its code."""
    return str(config["model_type"]).startswith(GATED) and ".mlp.adapter." in name


def _tensors(settings: Settings) -> dict[str, Shape]:
    """Canonical name -> shape, of a whole decoder."""
    rows, width = int(settings["vocab_size"]), int(settings["hidden_size"])
    layer = _layer(settings, width)
    tensors: dict[str, Shape] = {f"{EMBEDDINGS}.weight": (rows, width)}
    for index in range(int(settings["num_hidden_layers"])):
        tensors |= {f"{LAYERS}.{index}.{part}": shape for part, shape in layer.items()}
    return {**tensors, "norm.weight": (width,), f"{HEAD}.weight": (rows, width)}


def _layer(settings: Settings, width: int) -> dict[str, Shape]:
    """Name within a layer -> shape."""
    layout, heads = LAYOUTS[settings.model_type], int(settings["num_attention_heads"])
    head = settings.stated("head_dim") or (settings["head_dim"] if layout.default_head else width // heads)
    queries, keys, ffn = head * heads, head * int(settings["num_key_value_heads"]), int(settings["intermediate_size"])
    shapes = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (ffn, width),
        "mlp.up_proj": (ffn, width),
        "mlp.down_proj": (width, ffn),
    }
    switched = [linears for key, linears in layout.bias_switches.items() if settings.stated(key)]
    biased = {*layout.biases, *chain.from_iterable(switched)}
    parts: dict[str, Shape] = {f"{linear}.weight": shape for linear, shape in shapes.items()}
    parts |= {f"{of}.bias": shape[:1] for of, shape in shapes.items() if of.rpartition(".")[2] in biased}
    if layout.query_norm:
        sizes = (head, head) if layout.query_norm == "head" else (queries, keys)
        parts |= {"self_attn.q_norm.weight": sizes[:1], "self_attn.k_norm.weight": sizes[1:]}
    return parts | {f"{norm}_layernorm.weight": (width,) for norm in layout.norms}
