"""Vocabulary extension: new tokens for a tokenizer, and their rows of embeddings and head."""

from typing import Literal, get_args

Init = Literal["mean", "subtoken-mean", "subtoken-mean-norm"]
"""What the rows of new tokens are made of (`vocabulary/embedding_init.py`)."""
INITS: tuple[Init, ...] = get_args(Init)
