"""Check that a model can be used, before any work is done with it."""

from __future__ import annotations

from pathlib import Path

from lingraft.checkpoints.config import read_config_file
from lingraft.checkpoints.layout import check_layout
from lingraft.checkpoints.read import read_config, stored_dtype
from lingraft.checkpoints.tokens import check_tokens
from lingraft.checkpoints.weights import find_weights


def check_model(folder: Path) -> None:
    """Refuse a model that cannot process text.

    Raises:
        ModelError: a config that the library refuses, no weights, weights of an unsupported dtype, tensors
            that do not match the config, no tokenizer, or token ids beyond the embeddings.
    """
    read_config(folder)
    stored_dtype(folder)
    check_layout(folder, read_config_file(folder), find_weights(folder))
    check_tokens(folder)
