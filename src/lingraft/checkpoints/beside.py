"""What lies beside the weights of a model that is written: its base's own files, changed only where the model is.

A config in the words of its base is read by all that read the base: earlier transformers, llama.cpp, vLLM. What
the installed transformers would make of it has other names (`rope_theta`, `torch_dtype`) and fewer keys.
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
"""Patterns of files that go along with a model, beside its weights, config and tokenizer."""
_TOKENIZER_CONFIG = "tokenizer_config.json"
_DTYPE = ("dtype", "torch_dtype")
_OF_ITS_FILE = (*_DTYPE, "architectures", "transformers_version", "_name_or_path", "auto_map")
"""Keys of a config that say nothing of what a model computes."""


def copy_along(source: Path, folder: Path) -> None:
    """Copy what goes along with a model, byte for byte."""
    copy_files((path.name for pattern in ALONG for path in source.glob(pattern)), source, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy all files of a tokenizer; byte for byte, unless one says where on somebody's disk it came from."""
    copy_files((path.name for path in tokenizer_files(source)), source, folder)
    described = folder / _TOKENIZER_CONFIG
    settings = read_object(described) if described.is_file() else {}
    if is_place(settings.get("name_or_path")):
        write_json(described, {key: value for key, value in settings.items() if key != "name_or_path"})


def config_like(base: Mapping[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """The config of a model, in the words of its base's `config.json`: only what would be read otherwise is changed."""
    from lingraft.nn.remote_code import has_own_code

    config: Any = model.config
    read = type(config).from_dict({**base, "model_type": config.model_type}).to_dict()
    changed = _changed(portable(base), read, config.to_dict())
    if config.model_type != base.get("model_type"):
        changed |= {"model_type": config.model_type, "architectures": [type(model).__name__]}
    if has_own_code(config.model_type):
        changed["auto_map"] = config.auto_map
    return with_dtype(changed, str(model.dtype).removeprefix("torch."))


def with_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A config whose number type is another, wherever it names one."""
    return {
        key: dtype if key in _DTYPE and value else with_dtype(value, dtype) if isinstance(value, dict) else value
        for key, value in config.items()
    }


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config less what leads nowhere elsewhere: a place on a disk, and code, which is never copied with a model."""
    return {
        key: value
        for key, value in config.items()
        if key != "auto_map" and not (key == "_name_or_path" and is_place(value))
    }


def _changed(own: Mapping[str, Any], read: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`own`, with what is wanted in place of what was read from it."""
    changed = dict(own)
    for key, value in wanted.items():
        if key in _OF_ITS_FILE or (key in read and read[key] == value):
            continue
        inner, was = own.get(key), read.get(key)
        nested = isinstance(inner, dict) and isinstance(was, dict) and isinstance(value, dict)
        changed[key] = _changed(inner, was, value) if nested else value  # type: ignore[arg-type]
    return changed
