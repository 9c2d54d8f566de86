"""Tokenizers that are only a SentencePiece model: transformers converts them, with two more packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lingraft.errors import ModelError

_PACKAGES = {"sentencepiece": "sentencepiece", "google.protobuf": "protobuf"}
"""Module -> the package that has it."""


def check_can_be_converted(folder: Path) -> None:
    """Refuse a tokenizer that cannot be read for want of a package.

    Raises:
        ModelError: there is no tokenizer.json but a SentencePiece model; says what to install.
    """
    if (folder / "tokenizer.json").is_file():
        return
    models = [path.name for path in sorted(folder.glob("*.model")) if _is_sentencepiece(path)]
    missing = [package for module, package in _PACKAGES.items() if not _is_there(module)]
    if models and missing:
        raise ModelError(
            f"{folder}: its tokenizer is only a SentencePiece model ({models[0]}), which {' and '.join(missing)} "
            "would convert; install: pip install 'lingraft[sentencepiece]', or give a model with a tokenizer.json"
        )


def _is_sentencepiece(path: Path) -> bool:
    """By its first byte, the tag of a message's first field; tiktoken's files of this name are lines of text."""
    with path.open("rb") as file:
        return file.read(1) == b"\n"


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of google, nothing is there
        return False
