"""Compare the settings that affect what a language model computes, in one normal form.

transformers 4 writes `rope_theta` and `rope_scaling` where transformers 5 writes `rope_parameters`, and an omitted
key has the default of its class. transformers resolves both, but takes seconds to import: it is used only where two
files differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

from lingraft.architectures import ARCHITECTURES, GATED
from lingraft.checkpoints.config import text_part

MAY_DIFFER = frozenset(
    [
        "_name_or_path",
        "architectures",
        "attention_dropout",  # training only
        "bos_token_id",
        "chunk_size_feed_forward",
        "dtype",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "label2id",
        "max_position_embeddings",  # but see `computing`
        "max_window_layers",  # its effect is in `layer_types`
        "output_router_logits",
        "router_aux_loss_coef",  # of training
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "return_dict",
        "tie_word_embeddings",  # read from the files
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "use_sliding_window",
        "vocab_size",  # rows are matched by token
    ]
)
"""Settings that do not affect what a model computes, or are compared elsewhere. All others must agree."""
_BY_CONTEXT = ("dynamic", "longrope")
"""Rotary frequencies that depend on `max_position_embeddings`."""


class Settings:
    """The language model's settings: the stated value, else the default that transformers fills in."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self._stated = text_part(config)
        outer = str(config["model_type"]).removeprefix(GATED)
        row = ARCHITECTURES.get(outer)
        self.model_type = (row and row.language_model) or outer

    def __getitem__(self, key: str) -> Any:
        value = self._stated.get(key)
        return getattr(self._filled, key) if value is None else value

    def stated(self, key: str) -> Any:
        """The value in the file; `None` where the file has none."""
        return self._stated.get(key)

    @cached_property
    def _filled(self) -> Any:
        from lingraft.checkpoints.read import read_config

        return read_config(self.folder).get_text_config()

    @cached_property
    def computing(self) -> dict[str, Any]:
        """The settings that affect what the model computes; `False` counts as not set."""
        known, values = {field.name for field in fields(self._filled)}, self._filled.to_dict()
        rotary = _without_old_names(values.get("rope_parameters") or {})
        computing = {key: value for key, value in values.items() if key in known - MAY_DIFFER and value is not False}
        if any(kind in str(rotary) for kind in _BY_CONTEXT):
            computing["max_position_embeddings"] = values["max_position_embeddings"]
        return computing | {"rope_parameters": rotary}

    def differing(self, other: Settings) -> dict[str, tuple[Any, Any]]:
        """Key -> both values, where two models of one architecture compute differently."""
        if _to_compare(self._stated) == _to_compare(other._stated):
            return {}
        own, others = self.computing, other.computing
        return {key: (own.get(key), others.get(key)) for key in {**own, **others} if own.get(key) != others.get(key)}


def _to_compare(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stated.items() if key not in MAY_DIFFER - {"max_position_embeddings"}}


def _without_old_names(rotary: Mapping[str, Any]) -> dict[str, Any]:
    """Drop `type`, the old name of `rope_type`, which transformers keeps beside the new one."""
    return {
        key: _without_old_names(value) if isinstance(value, dict) else value
        for key, value in rotary.items()
        if key != "type"
    }
