"""Read a base model by folder or hub name: its config, weights, tokenizer and fingerprint.

Weights are read from safetensors only; code in a checkpoint is never run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.cache import files_fingerprint
from lingraft.checkpoints.config import read_config_file
from lingraft.checkpoints.dtypes import TORCH_NAMES
from lingraft.checkpoints.layout import check_layout
from lingraft.checkpoints.names import is_hub_name
from lingraft.checkpoints.sentencepiece_model import check_can_be_converted
from lingraft.checkpoints.weights import find_weights
from lingraft.errors import Interrupted, LingraftError, ModelError, first_line
from lingraft.layer_groups import text_config
from lingraft.machine_faults import machine_fault

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LICENCES = ("LICENSE*", "LICENCE*", "License*", "license*", "NOTICE*", "USE_POLICY*")
WHOLE = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "README.md", *LICENCES)
_NOT_FILES = ["consolidated*", "*/*"]  # the same weights in another format, or other files
WEIGHTS = "model*.safetensors"
"""Pattern of the files that hold the weights of a checkpoint."""
_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")
CONFIG_ONLY = ("config.json",)
TOKENIZER_ONLY = (*CONFIG_ONLY, *_TOKENIZER)
"""Patterns of the files that a tokenizer is read from; some tokenizers need the model's config."""

DEFAULT_MAX_LENGTH = 2048
"""Default tokens in a block or window, where the model's context is no shorter."""


def find_model(name: str, wanted: Sequence[str] = WHOLE) -> Path:
    """The local folder of a model: the folder itself, `model/` in a run's folder, or a folder in the hub's cache.

    From the hub it downloads the files that match `wanted`.

    Raises:
        ModelError: no such folder here or on the hub, the hub cannot be reached, or the folder has no config.
    """
    folder = find_folder(name, wanted)
    check_is_model(name, folder)
    return folder


def check_is_model(name: str, folder: Path) -> None:
    """Refuse a folder that holds no model; `name` is what the user gave.

    Raises:
        ModelError: it has no config.json; the message says what the folder seems to hold.
    """
    if not (folder / "config.json").is_file():
        hint = ""
        if (folder / "adapter_config.json").is_file():
            hint = " (it holds a PEFT adapter: merge it into its base first, with 'lingraft merge vectors')"
        raise ModelError(f"'{name}' is a folder without config.json{hint}; give a Hugging Face model folder")


def find_folder(name: str, wanted: Sequence[str] = WHOLE) -> Path:
    """The local folder of a model or an adapter. From the hub it downloads the files that match `wanted`.

    Raises:
        ModelError: no such folder here or on the hub, or the hub cannot be reached.
    """
    folder = Path(name)
    if folder.is_dir():
        return _of_run(folder)
    if folder.exists():
        raise ModelError(f"'{name}' is a file; give the model's folder")
    if not is_hub_name(name):
        raise ModelError(f"'{name}': there is no such folder (looked for {folder.resolve()})")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(wanted), ignore_patterns=_NOT_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"'{name}' is not a folder here (looked for {folder.resolve()}) and the hub does not give it: "
            f"{first_line(error)}; check the name, the connection (HF_HUB_OFFLINE) and your access to a gated model"
        ) from None


def _of_run(folder: Path) -> Path:
    """`model/` of a run's folder; any other folder unchanged."""
    if any((folder / name).exists() for name in ("config.json", "adapter_config.json")):
        return folder
    return folder / "model" if (folder / "model" / "config.json").is_file() else folder


def read_config(folder: Path) -> Any:
    """Read the model's config through transformers.

    Raises:
        ModelError: the config cannot be read, or the architecture is not supported.
    """
    from transformers import AutoConfig

    from lingraft.nn.remote_code import has_own_code, register

    model_type = read_config_file(folder)["model_type"]
    with reading(f"{folder}/config.json cannot be read"):
        if has_own_code(model_type):  # transformers has to know models that were exported with their code
            register(model_type)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text_config(config)
    return config


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn any error that a library raises over a model's files into a ModelError that begins with `what`.

    Raises:
        ModelError: with the library's message.
        Exception: a fault of the machine (`machine_faults`), unchanged.
    """
    try:
        yield
    except (LingraftError, KeyboardInterrupt, SystemExit, GeneratorExit, Interrupted):
        raise
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        if machine_fault(error) is not None:
            raise
        raise ModelError(f"{what}: {_in_one_line(error)}") from None


def _in_one_line(error: BaseException) -> str:
    """The message of an error on one line; its class name where the message is empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    shown = " ".join(lines[:2])[:300]
    return f"{type(error).__name__}: {shown}" if isinstance(error, KeyError) or not shown else shown


def context_length(config: Any) -> int:
    """The longest sequence of tokens that the model supports."""
    return int(text_config(config).max_position_embeddings)


def num_rows(folder: Path) -> int:
    """Rows of the embeddings, from the config."""
    return int(text_config(read_config(folder)).vocab_size)


def read_model(folder: Path, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """Load the model in `dtype`; `auto` keeps the stored dtype.

    Raises:
        ModelError: weights that are missing, truncated, of another shape, or only pickled.
    """
    from transformers import AutoModelForCausalLM

    config = read_config(folder)
    stored = read_config_file(folder)
    if not stored.get("quantization_config"):
        check_layout(folder, stored, find_weights(folder))
    loaded: Any
    with reading(f"{folder}: the weights cannot be loaded, safetensors files are needed"):
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
    model: PreTrainedModel
    model, info = loaded
    if info["missing_keys"]:
        raise ModelError(f"{folder}: tensors are missing from the files: {', '.join(sorted(info['missing_keys'])[:5])}")
    return model


def empty_model(config: Any) -> PreTrainedModel:
    """Build the model of a config on the meta device: names and shapes, no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with reading(f"{config.name_or_path}/config.json makes no model"), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        return model


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the model's tokenizer.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    check_can_be_converted(folder)
    with reading(f"{folder}: its tokenizer cannot be read"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer(["a b"], add_special_tokens=False, split_special_tokens=True, verbose=False)
        return tokenizer


def tokenizer_files(folder: Path) -> list[Path]:
    """All files that a tokenizer is read from."""
    return _matching(folder, _TOKENIZER)


def model_fingerprint(folder: Path) -> str:
    """The fingerprint of a model's weights, config and tokenizer."""
    weights = {tensor.file for tensor in find_weights(folder).values()}
    return files_fingerprint(sorted(weights) + _matching(folder, ["config.json", *_TOKENIZER]))


def model_files(folder: Path) -> list[Path]:
    """All files that are read when a model or an adapter is used."""
    return _matching(folder, ["*.safetensors", "*.safetensors.index.json", "*config.json", "*.jinja", *_TOKENIZER])


def tokenizer_fingerprint(folder: Path) -> str:
    """The fingerprint of all files that a tokenizer is read from."""
    return files_fingerprint(tokenizer_files(folder))


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of most stored parameters, from the headers of the files.

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
