"""Write a model with an extended tokenizer: the same weights, and rows for the new tokens."""

from __future__ import annotations

import logging
from pathlib import Path

from tokenizers import Tokenizer

from lingraft.cache import copy_files, write_json
from lingraft.checkpoints.beside import copy_along, portable
from lingraft.checkpoints.read import read_tokenizer
from lingraft.checkpoints.tokens import tokens_of
from lingraft.errors import LingraftError, ModelError
from lingraft.layer_groups import ROWS_ARE_TOKENS
from lingraft.merging.source_model import SourceModel
from lingraft.merging.tensor_reader import open_files
from lingraft.merging.vocabulary_alignment import num_rows
from lingraft.vocabulary import Init
from lingraft.vocabulary.bpe import BPE
from lingraft.vocabulary.embedding_init import Table, new_rows
from lingraft.vocabulary.extend import Extension
from lingraft.vocabulary.resize_embeddings import NewRows, padded, write_grown

logger = logging.getLogger(__name__)

_TOKENIZER = "tokenizer.json"
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json")
"""Files copied with a tokenizer; its other forms (`tokenizer.model`, `vocab.json`) lack the new tokens."""


def read_bpe(folder: Path) -> BPE:
    """Read the tokenizer of a folder through transformers, which may change what the file says.

    Raises:
        ModelError: it cannot be read, or cannot be extended.
    """
    return BPE(read_backend(folder), str(folder))


def read_backend(folder: Path) -> Tokenizer:
    """As `read_bpe`, for any tokenizer of the tokenizers library.

    Raises:
        ModelError: it cannot be read, or is not of that library.
    """
    tokenizer = read_tokenizer(folder)
    if not tokenizer.is_fast:
        raise ModelError(
            f"{folder}: its tokenizer ({type(tokenizer).__name__}) is Python code of its own; only those that have a "
            "tokenizer.json are supported"
        )
    backend: Tokenizer = tokenizer.backend_tokenizer
    return backend


def rows_for(parent: SourceModel, bpe: BPE, number: int) -> int:
    """Rows of embeddings and head after `number` new tokens, which follow all existing ids.

    Raises:
        ModelError: the tokenizer gives text ids beyond the rows.
    """
    tokens = tokens_of(read_tokenizer(parent.tokenizer_folder))
    tokens.check(parent.name, num_rows(parent))
    if rowless := tokens.rowless(num_rows(parent)):
        logger.info(
            "%s: %s special tokens without a row (%s) keep their ids and get rows, the mean of all; new tokens follow",
            *(parent.name, f"{len(rowless):,}", ", ".join(rowless[:3])),
        )
    return padded(len(bpe.strings) + number, num_rows(parent))


def write_extended(parent: SourceModel, extension: Extension, init: Init, rows: int, folder: Path) -> None:
    """Write model and tokenizer into an empty folder, with `rows` rows of embeddings and head.

    Raises:
        ModelError, OSError: as `write_grown`.
        LingraftError: transformers reads another tokenizer from the files.
    """
    write_grown(parent, _new_rows(parent, extension, init), extension.first, rows, folder)
    copy_along(parent.folder, folder)
    copy_files(_BESIDE, parent.tokenizer_folder, folder)
    extension.bpe.tokenizer.save(str(folder / _TOKENIZER))
    text = {"vocab_size": rows}
    nested = {"text_config": parent.config["text_config"] | text} if "text_config" in parent.config else text
    write_json(folder / "config.json", portable(parent.config) | nested)
    _check_same(extension.bpe.tokenizer, read_backend(folder), parent.name)


def _check_same(meant: Tokenizer, found: Tokenizer, name: str) -> None:
    """Compare with what transformers reads: some tokenizer classes rebuild the tokenizer on their own."""
    if meant.get_vocab(with_added_tokens=True) != found.get_vocab(with_added_tokens=True):
        raise LingraftError(f"{name}: transformers gives tokens of the extended tokenizer other ids than its file has")
    if meant.to_str() != found.to_str():
        raise LingraftError(f"{name}: transformers makes another tokenizer of the extended one's file than it holds")


def _new_rows(parent: SourceModel, extension: Extension, init: Init) -> dict[str, NewRows]:
    """The new rows by tensor name; rows of padding are the mean row."""
    bpe, first = extension.bpe, extension.first
    tokens = [token for token, string in enumerate(bpe.strings[: min(first, num_rows(parent))]) if string]
    surfaces = [bpe.surface(string) for string in bpe.strings]
    rows_by_name = {}
    for name in ROWS_ARE_TOKENS:
        if name in parent.weights:
            with open_files([parent.weights[name].file]) as files:
                table = Table(files, parent.weights[name], tokens)
                rows_by_name[name] = NewRows(new_rows(table, init, extension.pieces, surfaces), table.mean)
    return rows_by_name
