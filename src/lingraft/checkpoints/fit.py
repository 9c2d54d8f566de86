"""Whether checkpoints can be combined at all; asked before the first byte is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lingraft.checkpoints.parents import Parent
from lingraft.errors import ModelError
from lingraft.layer_groups import EMBEDDINGS, HEAD

logger = logging.getLogger(__name__)

ROWS_ARE_TOKENS = (f"{EMBEDDINGS}.weight", f"{HEAD}.weight")
"""Tensors whose rows are matched by token."""

_SAME_MODEL = ("model_type", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act")
"""Keys of a config that make another model of the same tensors."""
_MAY_DIFFER = [
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "max_position_embeddings",
    "pad_token_id",
    "text_config",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "vision_config",
    "vocab_size",
]


def check_fit(parents: Sequence[Parent]) -> None:
    """Compare each parent with the first: architecture, names of tensors, shapes apart from the vocabulary.

    Raises:
        ModelError: names what differs, and where.
    """
    first = parents[0]
    for other in parents[1:]:
        _check_config(first, other)
        if first.is_tied != other.is_tied:
            tied, free = (first, other) if first.is_tied else (other, first)
            raise ModelError(
                f"{tied.name} uses its embeddings as its head, {free.name} has a head of its own; "
                "they cannot be combined tensor by tensor"
            )
        _check_names(first, other)
        for name, tensor in other.weights.items():
            at = first.weights[name]
            free_axes = 1 if name in ROWS_ARE_TOKENS else 0
            if tensor.shape[free_axes:] != at.shape[free_axes:] or len(tensor.shape) != len(at.shape):
                raise ModelError(
                    f"{other.name}: tensor '{tensor.name}' in {tensor.file.name} has shape {list(tensor.shape)}, "
                    f"{first.name} has {list(at.shape)}; only models of one architecture and size can be combined"
                )
        _warn_of_settings(first, other)


def _check_config(first: Parent, other: Parent) -> None:
    here, there = _text(first.config), _text(other.config)
    for key in _SAME_MODEL:
        if here.get(key, there.get(key)) != there.get(key, here.get(key)):
            raise ModelError(
                f"{first.name} and {other.name} are different models: {key} is {here[key]!r} and {there[key]!r}"
            )


def _warn_of_settings(first: Parent, other: Parent) -> None:
    here, there = _text(first.config), _text(other.config)
    differ = sorted(key for key in here.keys() & there.keys() - set(_MAY_DIFFER) if here[key] != there[key])
    if differ:
        logger.warning(
            "%s and %s: their configs differ in %s; the result has that of the model whose tokenizer it has",
            first.name,
            other.name,
            ", ".join(f"{key} ({here[key]!r} and {there[key]!r})" for key in differ),
        )


def _text(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part of a config."""
    return {"model_type": config["model_type"], **config.get("text_config", config)}


def _check_names(first: Parent, other: Parent) -> None:
    for has, lacks in ((first, other), (other, first)):
        missing = [name for name in has.weights if name not in lacks.weights]
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise ModelError(
                f"{lacks.name} has no tensor '{has.weights[missing[0]].name}'{more}, {has.name} has; "
                "only models of one architecture and size can be combined"
            )
