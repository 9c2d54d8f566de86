"""Whether a model can be computed with, asked before any work is done with it."""

from __future__ import annotations

from pathlib import Path

from lingraft.checkpoints.config import read_config_file
from lingraft.checkpoints.layout import check_layout
from lingraft.checkpoints.read import read_config, stored_dtype
from lingraft.checkpoints.tokens import check_tokens
from lingraft.checkpoints.weights import find_weights


def check_model(folder: Path) -> None:
    """Refuse a model that text cannot be put through.

    Raises:
        ModelError: a config that the library refuses, no weights, weights of a type that we do not have, files that
            are not the model of the config, no tokenizer, or one that gives text ids beyond the embeddings.
    """
    read_config(folder)
    stored_dtype(folder)
    check_layout(folder, read_config_file(folder), find_weights(folder))
    check_tokens(folder)
