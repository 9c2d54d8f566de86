"""Read a model's `config.json` as it is stored, and check its numbers before any library uses them.

A library allocates as many layers as the file asks for, and raises errors of its own for wrong values. So the keys
that set a model's size, or that it computes with, are checked against ranges here, wherever in the file they stand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from lingraft.architectures import ARCHITECTURES, GATED, is_supported, unsupported
from lingraft.errors import ModelError

CONFIG = "config.json"

COUNTS = {
    "vocab_size": 2**26,
    "hidden_size": 2**18,
    "intermediate_size": 2**20,
    "num_hidden_layers": 2**10,
    "num_attention_heads": 2**14,
    "num_key_value_heads": 2**14,
    "head_dim": 2**14,
    "max_position_embeddings": 2**40,
    "image_size": 2**14,
    "patch_size": 2**14,
    "num_channels": 2**10,
    "mm_tokens_per_image": 2**20,
    "moe_intermediate_size": 2**20,
    "shared_expert_intermediate_size": 2**20,
    "num_experts": 2**14,
    "num_local_experts": 2**14,
    "num_experts_per_tok": 2**14,
}
"""Key -> the largest value allowed, far above that of any published model; the smallest is 1."""
_DERIVED = ("num_key_value_heads", "head_dim")
"""Keys that may be null: transformers derives their values."""
_ABOVE_ZERO = (
    "rms_norm_eps",
    "layer_norm_eps",
    "rope_theta",
    "rope_local_base_freq",
    "query_pre_attn_scalar",
    "logits_scaling",
    "logit_scale",
)
_PARTS = ("text_config", "vision_config", "rope_parameters", "rope_scaling")
"""Keys that hold an object."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a model's file; every value in it can be written as JSON again.

    Raises:
        ModelError: the file is missing, is no JSON object, or holds NaN, Infinity or a lone surrogate.
    """

    def refuse(constant: str) -> NoReturn:
        raise ModelError(f"{path} is not JSON ({constant} is no number of JSON); fetch it again")

    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file; fetch the model again") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is not JSON; fetch it again") from None
    if not isinstance(value, dict):
        raise ModelError(f'{path} holds no object, as {{"key": value}}; fetch it again')
    return value


def read_config_file(folder: Path) -> dict[str, Any]:
    """Read and check `config.json`.

    Raises:
        ModelError: it is not JSON, names an unsupported architecture, or has a value out of range; names the key.
    """
    path = folder / CONFIG
    config = read_object(path)
    if "model_type" not in config:
        raise ModelError(f"{path} is not the config of a model: it has no model_type")
    if not is_supported(config["model_type"]):
        raise ModelError(f"{folder}: {unsupported(config['model_type'])}")
    problem = next(_problems(config), None) or _text_problem(config) or _unmet_need(config)
    if problem:
        raise ModelError(f"{path}: {problem}; correct it, or fetch the file again")
    return config


def text_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that describes the language model."""
    return dict(config.get("text_config", config))


def _text_problem(config: Mapping[str, Any]) -> str | None:
    row = ARCHITECTURES.get(config["model_type"].removeprefix(GATED))
    if row and row.language_model:
        given = config.get("text_config")
        return None if isinstance(given, dict) else f"text_config is {given!r}, where an object must stand"
    return "text_config: this architecture is a language model alone" if "text_config" in config else None


def _unmet_need(config: Mapping[str, Any]) -> str | None:
    row = ARCHITECTURES.get(config["model_type"].removeprefix(GATED))
    for key, needed in row.needs.items() if row else ():
        if config.get(key, needed) not in (needed, None):
            return f"{key} is {config[key]!r}, and only {needed!r} is supported: all layers must have one layout"
    return None


def _problems(config: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key, value in config.items():
        shown = repr(value) if len(repr(value)) < 40 else f"{repr(value)[:40]}…"
        if key in COUNTS:
            if not (_is_count(value, COUNTS[key]) or (value is None and key in _DERIVED)):
                yield f"{place}{key} is {shown}, where a whole number from 1 to {COUNTS[key]:,} must stand"
        elif key in _ABOVE_ZERO:
            if not _is_above_zero(value):
                yield f"{place}{key} is {shown}, where a number above 0 must stand"
        elif key == "per_layer_config" and value:
            yield f"{place}{key}: layers of different shapes are not supported"
        elif key in _PARTS and value is not None:
            if not isinstance(value, dict):
                yield f"{place}{key} is {shown}, where an object must stand"
            else:
                yield from _problems(value, f"{place}{key}.")
        elif isinstance(value, dict):
            yield from _problems(value, f"{place}{key}.")


def _is_count(value: Any, largest: int) -> bool:
    return type(value) is int and 1 <= value <= largest


def _is_above_zero(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf
