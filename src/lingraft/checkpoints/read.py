"""A base model, by folder or hub name -> its config, weights, tokenizer and fingerprint.

Weights are read from safetensors only; code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.artefacts import files_fingerprint, read_json
from lingraft.checkpoints.dtypes import TORCH_NAMES
from lingraft.checkpoints.sentencepiece_model import check_can_be_converted
from lingraft.checkpoints.weights import find_weights
from lingraft.errors import ModelError
from lingraft.layer_groups import text_config

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
WHOLE = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
_NOT_FILES = ["consolidated*", "*/*"]  # the same weights once more, or something else
WEIGHTS = "model*.safetensors"
"""The files of a checkpoint that hold its weights."""
_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")
CONFIG_ONLY = ("config.json",)
TOKENIZER_ONLY = (*CONFIG_ONLY, *_TOKENIZER)
"""Patterns of files on the hub: a whole model, its config, what a tokenizer is read from (the config may say how)."""
ALONG = ("generation_config.json", "chat_template.jinja", "preprocessor_config.json", "processor_config.json")
"""Files that go along with a model, beside its weights, config and tokenizer."""

DEFAULT_MAX_LENGTH = 2048
"""Tokens in a block or window where nothing is said and the model's context allows it."""


def find_model(name: str, wanted: Sequence[str] = WHOLE) -> Path:
    """The local folder of a model: the folder itself, or what the hub's cache holds after download of what is `wanted`.

    Raises:
        ModelError: no such folder, one without a config, and the hub does not have it or cannot be reached.
    """
    folder = find_folder(name, wanted)
    check_is_model(name, folder)
    return folder


def check_is_model(name: str, folder: Path) -> None:
    """Refuse a folder, which was given as `name`, that holds no model.

    Raises:
        ModelError: it has no config.json; says what it seems to be.
    """
    if not (folder / "config.json").is_file():
        hint = ""
        if (folder / "adapter_config.json").is_file():
            hint = " (it holds a PEFT adapter: merge it into its base first, with 'lingraft merge vectors')"
        elif (folder / "model" / "config.json").is_file():
            hint = f" (it is the folder of a run: its model is {folder / 'model'})"
        raise ModelError(f"'{name}' is a folder without config.json{hint}; give a Hugging Face model folder")


def find_folder(name: str, wanted: Sequence[str] = WHOLE) -> Path:
    """The local folder of a model or an adapter; of the hub's files those that match `wanted`.

    Raises:
        ModelError: no such folder, and the hub does not have it or cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"'{name}' is a file; give the model's folder")
    if not _HUB_NAME.fullmatch(name):
        raise ModelError(f"'{name}': there is no such folder (looked for {folder.resolve()})")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(wanted), ignore_patterns=_NOT_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"'{name}' is not a folder here (looked for {folder.resolve()}) and the hub does not give it: {reason}; "
            "check the name, the connection (HF_HUB_OFFLINE) and your access to a gated model"
        ) from None


def read_config(folder: Path) -> Any:
    """The model's config.

    Raises:
        ModelError: a config that cannot be read, or an architecture that we do not support.
    """
    from transformers import AutoConfig

    try:
        _register(folder)
        config = AutoConfig.from_pretrained(folder)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(f"{folder}/config.json cannot be read: {str(error).splitlines()[0]}") from None
    text_config(config)
    return config


def _register(folder: Path) -> None:
    """Let transformers know the architecture of a model that we exported with its code."""
    from lingraft.nn.own_code import has_own_code, register

    if (folder / "config.json").is_file():
        model_type = str(read_json(folder / "config.json").get("model_type"))
        if has_own_code(model_type):
            register(model_type)


def context_length(config: Any) -> int:
    """The longest row of tokens that the model was made for."""
    return int(text_config(config).max_position_embeddings)


def read_model(folder: Path, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """The model in `dtype`; `auto` keeps the type that its file has.

    Raises:
        ModelError: weights that are missing, cut short, of another shape, or pickled only.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    config = read_config(folder)
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{folder}: the weights cannot be loaded: {reason}; safetensors files are needed") from None
    model: PreTrainedModel
    model, info = loaded
    if info["missing_keys"]:
        raise ModelError(f"{folder}: tensors are missing from the files: {', '.join(sorted(info['missing_keys'])[:5])}")
    return model


def empty_model(config: Any) -> PreTrainedModel:
    """The model of a config on the meta device: names and shapes, no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        return model


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    check_can_be_converted(folder)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        return tokenizer
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be read: {str(error).splitlines()[0]}") from None


def tokenizer_files(folder: Path) -> list[Path]:
    """All files that a tokenizer is read from."""
    return _matching(folder, _TOKENIZER)


def model_fingerprint(folder: Path) -> str:
    """Stands for a model's weights, config and tokenizer."""
    weights = {tensor.file for tensor in find_weights(folder).values()}
    return files_fingerprint(sorted(weights) + _matching(folder, ["config.json", *_TOKENIZER]))


def tokenizer_fingerprint(folder: Path) -> str:
    """Stands for all files that a tokenizer is read from."""
    return files_fingerprint(tokenizer_files(folder))


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def stored_dtype(folder: Path) -> torch.dtype:
    """The type that most of the stored weights have, read from the headers of the files.

    Raises:
        ModelError: as `find_weights`.
    """
    import torch

    sizes = Counter[str]()
    for tensor in find_weights(folder).values():
        sizes[tensor.dtype] += tensor.num_bytes
    largest = max(sizes, key=lambda dtype: sizes[dtype])
    dtype: torch.dtype = getattr(torch, TORCH_NAMES[largest])
    return dtype


def check_model(folder: Path) -> None:
    """Refuse a base that cannot be trained, before any work is done with it.

    Raises:
        ModelError: no weights, weights of a type that we do not have, no tokenizer, or one that
            does not fit the embeddings.
    """
    stored_dtype(folder)
    tokens, rows = len(read_tokenizer(folder)), int(text_config(read_config(folder)).vocab_size)
    if tokens > rows:
        raise ModelError(f"{folder}: the tokenizer has {tokens:,} tokens, the embeddings have {rows:,} rows")
