"""The tensors that a config asks for, and whether a model's files hold them: names, layers, rows and widths.

What a layer holds is said by the architecture's row (`architectures`). What a model does not read may lie in its
files: a head that is the embeddings once more, rotary frequencies, scales of a cache, and in a multimodal checkpoint
everything beside the language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from lingraft.architectures import ARCHITECTURES, GATED, Architecture
from lingraft.checkpoints.config import CONFIG
from lingraft.checkpoints.settings import Settings
from lingraft.checkpoints.weights import Weights
from lingraft.errors import ModelError
from lingraft.layer_groups import (
    EMBEDDINGS,
    FFN,
    HEAD,
    LAYERS,
    canonical_name,
    layer_index,
    num_layers,
)

Shape = tuple[int, ...]


def check_layout(folder: Path, config: Mapping[str, Any], weights: Weights) -> None:
    """Refuse files that do not hold the model of a config; `weights` by any style of names.

    Raises:
        ModelError: another number of layers, tensors that are missing, of other shapes, or that the model would ignore.
    """
    settings = Settings(folder, config)
    held = {canonical_name(name): tensor for name, tensor in weights.items()}
    _check_layers(folder, settings, num_layers(held))
    if settings.model_type not in ARCHITECTURES:
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
    return str(config["model_type"]).startswith(GATED) and f".{FFN}.adapter." in name


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
    row, heads = ARCHITECTURES[settings.model_type], int(settings["num_attention_heads"])
    head = settings.stated("head_dim") or (settings["head_dim"] if row.default_head else width // heads)
    queries, keys = head * heads, head * int(settings["num_key_value_heads"])
    ffn = int(settings[row.experts.width if row.experts else "intermediate_size"])
    shapes = _linears(row, width, queries, keys, ffn, _num_experts(row, settings))
    switched = [linears for key, linears in row.bias_switches.items() if settings.stated(key)]
    biased = {*row.biases, *chain.from_iterable(switched)}
    parts: dict[str, Shape] = {f"{linear}.weight": shape for linear, shape in shapes.items()}
    parts |= {f"{linear}.bias": shape[:1] for linear, shape in shapes.items() if linear.rpartition(".")[2] in biased}
    if row.query_norm:
        sizes = (head, head) if row.query_norm == "head" else (queries, keys)
        parts |= {"self_attn.q_norm.weight": sizes[:1], "self_attn.k_norm.weight": sizes[1:]}
    parts |= dict.fromkeys(row.numbers, (1,))
    return parts | {f"{norm}.weight": (width,) for norm in row.norms}


def _num_experts(row: Architecture, settings: Settings) -> int:
    """0 where the feed-forward block is one."""
    if row.experts is None:
        return 0
    stated = next((settings.stated(key) for key in row.experts.count if settings.stated(key)), None)
    return int(stated or settings[row.experts.count[0]])


def _linears(row: Architecture, width: int, queries: int, keys: int, ffn: int, experts: int) -> dict[str, Shape]:
    """Module name within a layer -> shape of its weight; a fused linear has the rows of all that it holds."""
    rows = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": width}
    rows |= {"gate_proj": ffn, "up_proj": ffn, "down_proj": width}
    columns = {"o_proj": queries, "down_proj": ffn}
    places = {f"self_attn.{name}": name for name in row.attention} | {f"{FFN}.{name}": name for name in row.ffn}
    routers: dict[str, Shape] = {}
    if row.experts:
        places |= {f"{FFN}.experts.{i}.{name}": name for i in range(experts) for name in row.experts.linears}
        routers = {f"{FFN}.{row.experts.router}": (experts, width)}
    return routers | {
        place: (sum(rows[part] for part in row.fused.get(name, (name,))), columns.get(name, width))
        for place, name in places.items()
    }
