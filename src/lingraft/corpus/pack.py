"""Pack documents into blocks of `max_length` tokens, each token with its language.

The documents of all sources are shuffled by seed, concatenated, and cut into blocks; the last
block may be shorter. Every token is used once, except a single token at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lingraft.corpus.mix import Draw
from lingraft.corpus.tokenize import DocumentTokenizer

if TYPE_CHECKING:
    from datasets import Dataset

SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("languages", pa.list_(pa.int8()))])
"""One row a block: token ids and, per token, the position of its language in the list given."""

_FETCH_DOCUMENTS = 1024
_WRITE_BLOCKS = 256

Tokens = npt.NDArray[np.int32]
Languages = npt.NDArray[np.int8]


def write_blocks(
    path: Path,
    documents: Sequence[Dataset],
    draws: Sequence[Draw],
    languages: Sequence[Sequence[int]],
    max_length: int,
    seed: int,
) -> int:
    """Pack the documents drawn from each table into the table of blocks `path`.

    `languages[i]` is the language number of the i-th source, or the two of aligned pairs. Returns the number of blocks.
    """
    blocks = _blocks(_shuffled(documents, draws, languages, seed), max_length)
    count = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as table:
        ids: list[Tokens] = []
        marks: list[Languages] = []
        for block, language in blocks:
            ids.append(block)
            marks.append(language)
            count += 1
            if len(ids) == _WRITE_BLOCKS:
                table.write_batch(pa.record_batch([ids, marks], schema=SCHEMA))
                ids, marks = [], []
        if ids:
            table.write_batch(pa.record_batch([ids, marks], schema=SCHEMA))
    return count


def _shuffled(
    documents: Sequence[Dataset], draws: Sequence[Draw], languages: Sequence[Sequence[int]], seed: int
) -> Iterator[tuple[Tokens, Languages]]:
    """The drawn documents of all sources in one seeded order."""
    tables = [
        table.with_format("numpy", columns=[name for name in ("input_ids", "sides") if name in table.column_names])
        for table in documents
    ]
    source = np.concatenate([np.full(len(draw.documents), i) for i, draw in enumerate(draws)])
    row = np.concatenate([draw.documents for draw in draws])
    length = np.concatenate([draw.tokens for draw in draws])
    order = np.random.default_rng([seed, 0xB10C]).permutation(len(row))
    for start in range(0, len(order), _FETCH_DOCUMENTS):
        chunk = order[start : start + _FETCH_DOCUMENTS]
        fetched: dict[int, tuple[Tokens, Languages]] = {}
        for number, table in enumerate(tables):
            of_source = chunk[source[chunk] == number]
            if len(of_source):
                rows = table[row[of_source]]
                marks = _marks(rows, np.array(languages[number], dtype=np.int8))
                fetched.update(zip(of_source.tolist(), zip(rows["input_ids"], marks, strict=True), strict=True))
        for position in chunk.tolist():
            ids, of_tokens = fetched[position]
            yield np.asarray(ids, dtype=np.int32)[: length[position]], of_tokens[: length[position]]


def _marks(rows: Mapping[str, Sequence[npt.NDArray[Any]]], languages: Languages) -> Iterator[Languages]:
    """The language number of each token, document by document."""
    if "sides" in rows:
        return (languages[sides] for sides in rows["sides"])
    return (np.full(len(ids), languages[0], dtype=np.int8) for ids in rows["input_ids"])


def _blocks(stream: Iterator[tuple[Tokens, Languages]], max_length: int) -> Iterator[tuple[Tokens, Languages]]:
    ids = np.empty(0, dtype=np.int32)
    marks = np.empty(0, dtype=np.int8)
    for document, language in stream:
        ids = np.concatenate([ids, document])
        marks = np.concatenate([marks, language])
        ends = range(0, len(ids) + 1, max_length)
        for start, end in pairwise(ends):
            yield ids[start:end], marks[start:end]
        ids, marks = ids[ends[-1] :], marks[ends[-1] :]
    if len(ids) > 1:  # a single token predicts nothing
        yield ids, marks


def write_text_blocks(
    path: Path, texts: Sequence[str], tokenizer: DocumentTokenizer, max_length: int, max_blocks: int
) -> int:
    """Pack the first texts into the table `path`, in their order, at most `max_blocks` of them."""
    ids: list[int] = []
    for text in texts:
        ids += tokenizer.encode_documents([text])[0]
        if len(ids) >= max_blocks * max_length:
            break
    stream = np.array(ids[: max_blocks * max_length], dtype=np.int32)
    blocks = [block for block, _ in _blocks(iter([(stream, np.zeros(len(stream), dtype=np.int8))]), max_length)]
    whole = [block for block in blocks if len(block) == max_length] or blocks
    languages = [np.zeros(len(block), dtype=np.int8) for block in whole]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as table:
        table.write_batch(pa.record_batch([whole, languages], schema=SCHEMA))
    return len(whole)
