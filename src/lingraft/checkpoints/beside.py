"""Write the files beside a model's weights: copies of its base's files, changed only where the model differs.

A config that keeps its base's keys loads in every program that loads the base: earlier transformers, llama.cpp,
vLLM. The installed transformers would rename keys (`rope_theta`, `torch_dtype`) and drop others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.cache import copy_files, write_json
from lingraft.checkpoints.config import read_object
from lingraft.checkpoints.names import is_place
from lingraft.checkpoints.read import LICENCES, tokenizer_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALONG = (
    "generation_config.json",
    "*.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    *LICENCES,
)
"""Patterns of the files that are copied with a model, beside its weights, config and tokenizer."""
_TOKENIZER_CONFIG = "tokenizer_config.json"
_DTYPE = ("dtype", "torch_dtype")
_FILE_KEYS = (*_DTYPE, "architectures", "transformers_version", "_name_or_path", "auto_map")
"""Keys of a config that do not affect what a model computes."""


def copy_along(source: Path, folder: Path) -> None:
    """Copy the files under `ALONG`, byte for byte."""
    copy_files((path.name for pattern in ALONG for path in source.glob(pattern)), source, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy all files of a tokenizer, byte for byte; only a path on somebody's disk is removed from its config."""
    copy_files((path.name for path in tokenizer_files(source)), source, folder)
    described = folder / _TOKENIZER_CONFIG
    settings = read_object(described) if described.is_file() else {}
    if is_place(settings.get("name_or_path")):
        write_json(described, {key: value for key, value in settings.items() if key != "name_or_path"})


def config_like(base: Mapping[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """The config of a model, with the keys of its base's `config.json`: only keys whose values differ are changed."""
    from lingraft.nn.remote_code import has_own_code

    config: Any = model.config
    changed = portable(base)
    for _ in range(2):  # once more for keys that are read from others: head_dim, where only hidden_size was stated
        read = type(config).from_dict({**changed, "model_type": config.model_type}).to_dict()
        changed = _changed(changed, read, config.to_dict())
    if config.model_type != base.get("model_type"):
        changed |= {"model_type": config.model_type, "architectures": [type(model).__name__]}
    if has_own_code(config.model_type):
        changed["auto_map"] = config.auto_map
    return with_dtype(changed, str(model.dtype).removeprefix("torch."))


def with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A config with another dtype, wherever it names one."""
    return {
        key: dtype if key in _DTYPE and value else with_dtype(value, dtype) if isinstance(value, dict) else value
        for key, value in config.items()
    }


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without paths on a disk and without references to code, which is never copied with a model."""
    return {
        key: value
        for key, value in config.items()
        if key != "auto_map" and not (key == "_name_or_path" and is_place(value))
    }


def _changed(own: Mapping[str, Any], read: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`own`, with the values of `wanted` where they differ from `read`."""
    changed = dict(own)
    for key, value in wanted.items():
        if key in _FILE_KEYS or (key in read and read[key] == value):
            continue
        inner, was = own.get(key), read.get(key)
        nested = isinstance(inner, dict) and isinstance(was, dict) and isinstance(value, dict)
        changed[key] = _changed(inner, was, value) if nested else value  # type: ignore[arg-type]
    return changed
