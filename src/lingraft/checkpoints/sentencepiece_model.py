"""Check that a tokenizer that is only a SentencePiece model can be converted; transformers needs two packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lingraft.errors import ModelError

_PACKAGES = {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}
"""Module -> the package to install."""


def check_can_be_converted(folder: Path) -> None:
    """Refuse a tokenizer that cannot be read because a package is missing.

    Raises:
        ModelError: there is a SentencePiece model and no tokenizer.json; names the packages to install.
    """
    if (folder / "tokenizer.json").is_file():
        return
    models = [path.name for path in sorted(folder.glob("*.model")) if _is_sentencepiece(path)]
    missing = [package for module, package in _PACKAGES.items() if not _is_installed(module)]
    if models and missing:
        raise ModelError(
            f"{folder}: its tokenizer is only a SentencePiece model ({models[0]}), which {' and '.join(missing)} "
            "would convert; install: pip install 'lingraft[sentencepiece]', or give a model with a tokenizer.json"
        )


def _is_sentencepiece(path: Path) -> bool:
    """Whether the first byte is the protobuf tag of field 1; tiktoken's `*.model` files are lines of text."""
    with path.open("rb") as file:
        return file.read(1) == b"\n"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package `google` is missing
        return False
