"""Tokenize documents into a table on disk, which is memory-mapped when it is read.

A document in training is `[BOS] + ids + [EOS]`, with the marks of the model's pretraining; either may be lacking. Text
that looks like a special token is tokenized as text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lingraft.corpus.indices import Indices
from lingraft.corpus.text_parts import batches, text_parts
from lingraft.corpus.words import words_of

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("input_ids", pa.large_list(pa.int32())),
        ("num_tokens", pa.int32()),
        ("digest", pa.int64()),
    ]
)
"""One row a document. `num_tokens` includes BOS and EOS; documents are drawn by `digest` (`text_digest`)."""

PAIRS = pa.schema([*list(SCHEMA)[:3], ("second", pa.int32()), ("sides", pa.large_list(pa.int8()))])
"""One row a pair in one order. `second`: the character at which the second text begins; `sides`: the language of each
token, 0 or 1."""

BETWEEN = "\n"
"""The separator of the two texts of a pair."""

_BATCH_DOCUMENTS = 512
_Row = TypeVar("_Row", str, tuple[str, ...])


@dataclass(frozen=True)
class DocumentTokenizer:
    """A tokenizer, and the tokens before and after a document (`checkpoints.document_marks`)."""

    tokenizer: PreTrainedTokenizerBase
    bos: str | None
    eos: str | None

    @property
    def bos_ids(self) -> list[int]:
        """The token before a document, or none."""
        return self._ids(self.bos)

    @property
    def eos_ids(self) -> list[int]:
        """The token after a document, or none."""
        return self._ids(self.eos)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode`: token ids of texts alone."""
        return encode(self.tokenizer, texts)

    def encode_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of documents as they train: `[BOS] + ids + [EOS]`, each where there is one."""
        return [self.bos_ids + ids + self.eos_ids for ids in self.encode(texts)]

    def _ids(self, token: str | None) -> list[int]:
        ids: Any = self.tokenizer.convert_tokens_to_ids([] if token is None else [token])
        return list(ids)


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts, without BOS and EOS; `<|endoftext|>` written in a text is tokenized as text."""
    ids: list[list[int]] = [[] for _ in texts]
    parts = ((i, part) for i, text in enumerate(texts) for part in text_parts(text))
    for batch in batches(parts, lambda numbered: len(numbered[1]), _BATCH_DOCUMENTS):
        some = [part for _, part in batch]
        rows = tokenizer(some, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids
        for (i, _), row in zip(batch, rows, strict=True):
            ids[i] += row
    return ids


def text_digest(text: str) -> int:
    """A 64-bit signed hash of the words of a text; white space between them makes no difference.

    It orders documents for a draw. `lingraft.corpus.words` decides whether two texts are the same when compared.
    """
    words = " ".join(text.split())
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big", signed=True)


def text_digests(texts: Sequence[str]) -> Indices:
    """(texts,) digests by which texts are drawn; texts that are the same when compared share one."""
    same: dict[int, int] = {}
    hashes = words_of(texts).whole().hashes.tolist()
    digests = [same.setdefault(whole, text_digest(text)) for whole, text in zip(hashes, texts, strict=True)]
    return np.array(digests, dtype=np.int64)


def write_documents(
    path: Path, texts: Iterator[str], tokenizer: DocumentTokenizer, max_tokens: int | None = None
) -> int:
    """Tokenize documents into the table `path`, until there are `max_tokens`; returns their tokens."""

    def columns(batch: list[str]) -> list[list[Any]]:
        ids = tokenizer.encode_documents(batch)
        return [batch, ids, [len(row) for row in ids], [text_digest(text) for text in batch]]

    return _write_table(path, SCHEMA, texts, columns, max_tokens)


def write_pairs(
    path: Path, pairs: Iterator[tuple[str, ...]], tokenizer: DocumentTokenizer, max_tokens: int | None = None
) -> int:
    """As `write_documents`, for aligned pairs: each is a document in both orders, the second text on a line of its own.

    Next-token prediction on text in two languages aligns new tokens with old ones (arXiv 2412.13375).
    """
    num_bos = len(tokenizer.bos_ids)

    def columns(batch: list[tuple[str, ...]]) -> list[list[Any]]:
        orders = [(pair[first], pair[1 - first], first) for pair in batch for first in (0, 1)]
        texts = [one + BETWEEN + other for one, other, _ in orders]
        ids = tokenizer.encode_documents(texts)
        before = tokenizer.encode([one + BETWEEN for one, _, _ in orders])
        sides = []
        for row, beginning, (_, _, first) in zip(ids, before, orders, strict=True):
            switch = min(num_bos + len(beginning), len(row))
            sides.append([first] * switch + [1 - first] * (len(row) - switch))
        return [texts, ids, [len(row) for row in ids], [len(one + BETWEEN) for one, _, _ in orders], sides]

    return _write_table(path, PAIRS, pairs, columns, max_tokens)


def _write_table(
    path: Path,
    schema: pa.Schema,
    rows: Iterator[_Row],
    columns: Callable[[list[_Row]], list[list[Any]]],
    max_tokens: int | None,
) -> int:
    """Write the columns of rows, batch by batch, until there are `max_tokens`; returns the number of tokens."""
    total = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as table:
        for batch in batches(rows, _num_characters, _BATCH_DOCUMENTS):
            written = pa.record_batch(columns(batch), schema=schema)
            table.write_batch(written)
            total += pc.sum(written.column("num_tokens")).as_py()
            if max_tokens is not None and total >= max_tokens:
                break
    return total


def _num_characters(row: str | tuple[str, ...]) -> int:
    return len(row) if isinstance(row, str) else sum(map(len, row))


def open_table(path: Path) -> Dataset:
    """Open a table that this package wrote, memory-mapped by 🤗 datasets."""
    from datasets import Dataset

    return Dataset.from_file(str(path))


def column(table: Dataset, name: str) -> Indices:
    """A column of numbers, of shape (rows,)."""
    return np.asarray(table.with_format("numpy", columns=[name])[:][name], dtype=np.int64)


def read_texts_of(table: Dataset) -> Iterator[tuple[str, ...]]:
    """The texts of each document: one, or the two of a pair."""
    is_of_pairs = "second" in table.column_names
    columns = table.select_columns(["text", "second"] if is_of_pairs else ["text"])
    for start in range(0, len(columns), _BATCH_DOCUMENTS):
        batch = columns[start : start + _BATCH_DOCUMENTS]
        if is_of_pairs:
            for text, second in zip(batch["text"], batch["second"], strict=True):
                yield text[: second - len(BETWEEN)], text[second:]
        else:
            yield from ((text,) for text in batch["text"])
