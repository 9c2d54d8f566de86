"""The settings of a language model that decide what it computes, in one form for all ways to write them.

Configs of transformers 4 say `rope_theta` and `rope_scaling` where those of 5 say `rope_parameters`, and what a
config leaves out has the value of its class. transformers knows all of this, and takes seconds to load: it is asked
only where files differ in what they state.
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
        "attention_dropout",  # of training
        "bos_token_id",
        "chunk_size_feed_forward",
        "dtype",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "label2id",
        "max_position_embeddings",  # but see `computing`
        "output_router_logits",
        "router_aux_loss_coef",  # of training
        "max_window_layers",  # `layer_types` says what comes of it
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
"""Settings that leave what a model computes as it is, or are compared elsewhere. All others must agree."""
_BY_CONTEXT = ("dynamic", "longrope")
"""Rotary frequencies that depend on `max_position_embeddings`."""


class Settings:
    """The language model's settings: as the file says, else as transformers fills them in."""

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
        """What the file says, `None` where it says nothing."""
        return self._stated.get(key)

    @cached_property
    def _filled(self) -> Any:
        from lingraft.checkpoints.read import read_config

        return read_config(self.folder).get_text_config()

    @cached_property
    def computing(self) -> dict[str, Any]:
        """What the model computes with, of all that its architecture knows; off and not set are one."""
        known, values = {of.name for of in fields(self._filled)}, self._filled.to_dict()
        rotary = _without_old_names(values.get("rope_parameters") or {})
        computing = {key: value for key, value in values.items() if key in known - MAY_DIFFER and value is not False}
        if any(of in str(rotary) for of in _BY_CONTEXT):
            computing["max_position_embeddings"] = values["max_position_embeddings"]
        return computing | {"rope_parameters": rotary}

    def differing(self, other: Settings) -> dict[str, tuple[Any, Any]]:
        """Key -> both values, where two models of one architecture compute otherwise."""
        if _to_compare(self._stated) == _to_compare(other._stated):
            return {}
        here, there = self.computing, other.computing
        return {key: (here.get(key), there.get(key)) for key in {**here, **there} if here.get(key) != there.get(key)}


def _to_compare(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stated.items() if key not in MAY_DIFFER - {"max_position_embeddings"}}


def _without_old_names(rotary: Mapping[str, Any]) -> dict[str, Any]:
    """`type` is what `rope_type` was called; transformers keeps it beside the new name."""
    return {key: _without_old_names(of) if isinstance(of, dict) else of for key, of in rotary.items() if key != "type"}
