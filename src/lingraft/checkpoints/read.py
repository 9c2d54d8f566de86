"""A base model, by folder or hub name -> its config, weights, tokenizer and fingerprint.

Weights are read from safetensors only; code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.artefacts import file_fingerprint, fingerprint
from lingraft.errors import ModelError
from lingraft.layer_groups import text_config

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
_NOT_FILES = ["consolidated*", "*/*"]  # the same weights once more, or something else
WEIGHTS = "model*.safetensors"
"""The files of a checkpoint that hold its weights."""
_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")

DEFAULT_MAX_LENGTH = 2048
"""Tokens in a block or window where nothing is said and the model's context allows it."""


def find_model(name: str, config_only: bool = False) -> Path:
    """The local folder of a model: the folder itself, or what the hub's cache holds after download.

    Raises:
        ModelError: no such folder, and the hub does not have it or cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            adapter = " (it holds a PEFT adapter: merge it into its base first)"
            hint = adapter if (folder / "adapter_config.json").is_file() else ""
            raise ModelError(f"'{name}' is a folder without config.json{hint}; give a Hugging Face model folder")
        return folder
    if folder.exists():
        raise ModelError(f"'{name}' is a file; give the model's folder")
    if not _HUB_NAME.fullmatch(name):
        raise ModelError(f"'{name}': there is no such folder (looked for {folder.resolve()})")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["config.json"] if config_only else _FILES
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=_NOT_FILES))
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
        config = AutoConfig.from_pretrained(folder)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(f"{folder}/config.json cannot be read: {str(error).splitlines()[0]}") from None
    text_config(config)
    return config


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

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        return tokenizer
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be read: {str(error).splitlines()[0]}") from None


def model_fingerprint(folder: Path) -> str:
    """Stands for a model's weights, config and tokenizer."""
    return _fingerprint(folder, [WEIGHTS, "config.json", *_TOKENIZER])


def tokenizer_fingerprint(folder: Path) -> str:
    """Stands for all files that a tokenizer is read from."""
    return _fingerprint(folder, _TOKENIZER)


def _fingerprint(folder: Path, patterns: Sequence[str]) -> str:
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return fingerprint({path.name: file_fingerprint(path) for path in paths})


def stored_dtype(folder: Path) -> torch.dtype:
    """The type that most of the stored weights have, read from the headers of the files.

    Raises:
        ModelError: there are no safetensors files, or most weights have a type that cannot be trained.
    """
    import torch

    known = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    sizes: dict[str, int] = {}
    for path in folder.glob(WEIGHTS):
        for name, tensor in _header(path).items():
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                sizes[tensor["dtype"]] = sizes.get(tensor["dtype"], 0) + end - start
    if not sizes:
        raise ModelError(f"{folder}: there are no weights; lingraft reads {WEIGHTS} (safetensors only, no pickles)")
    largest = max(sizes, key=lambda dtype: sizes[dtype])
    if largest not in known:
        raise ModelError(f"{folder}: weights of type {largest}; supported are {', '.join(known)}")
    return known[largest]


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            return header
    except (ValueError, MemoryError, OverflowError):
        raise ModelError(f"{path}: this is not a safetensors file, or it was cut short") from None


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
