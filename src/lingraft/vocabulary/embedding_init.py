"""Initialize rows of embeddings and head for new tokens from the existing rows."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lingraft.checkpoints.dtypes import Floats
from lingraft.checkpoints.weights import StoredTensor
from lingraft.merging.tensor_reader import OpenFiles
from lingraft.vocabulary import Init

_CHUNK = 4096
"""Rows that are read at a time."""
_ENOUGH = 8
"""Rows of a script that a median needs."""


class Table:
    """Stored embeddings or head, read row by row."""

    def __init__(self, files: OpenFiles, tensor: StoredTensor, tokens: Sequence[int]) -> None:
        self.files, self.tensor = files, tensor
        self.tokens = np.array(tokens, dtype=np.int64)
        """Ids with a token; all other rows are padding."""

    def __getitem__(self, rows: NDArray[np.int64]) -> Floats:
        """(rows, width), in float32; `rows` in ascending order."""
        return self.files.floats(self.tensor, rows)

    def _chunks(self) -> Iterator[Floats]:
        for start in range(0, len(self.tokens), _CHUNK):
            yield self[self.tokens[start : start + _CHUNK]]

    @cached_property
    def mean(self) -> Floats:
        """(width,): the mean row over all tokens."""
        total: NDArray[np.float64] = sum(rows.sum(0, dtype=np.float64) for rows in self._chunks())
        return (total / len(self.tokens)).astype(np.float32)

    def norms(self) -> NDArray[np.float64]:
        """(tokens,): length of the row of each token."""
        return np.concatenate([np.linalg.norm(rows.astype(np.float64), axis=1) for rows in self._chunks()])


def new_rows(table: Table, init: Init, pieces: Sequence[Sequence[int]], surfaces: Sequence[str]) -> Floats:
    """(new tokens, width): a row for each new token.

    `mean`: the mean of all rows. `subtoken-mean`: the mean of the rows of its subtokens in the old tokenizer.
    `subtoken-mean-norm`: the same, scaled to the median norm of the rows of its script. `surfaces` are the
    texts of all tokens by id, old tokens first; `pieces` are the old ids of each new token.
    """
    if init == "mean":
        return np.repeat(table.mean[None], len(pieces), axis=0)
    rows = _means(table, pieces)
    return rows if init == "subtoken-mean" else _as_long_as_its_script(rows, table, surfaces)


def _means(table: Table, pieces: Sequence[Sequence[int]]) -> Floats:
    used = np.unique(np.concatenate([np.array(tokens, dtype=np.int64) for tokens in pieces]))
    rows = table[used]
    return np.stack([rows[np.searchsorted(used, tokens)].mean(0) for tokens in pieces])


def _as_long_as_its_script(rows: Floats, table: Table, surfaces: Sequence[str]) -> Floats:
    norms = table.norms()
    by_script: defaultdict[str, list[float]] = defaultdict(list)
    for token, norm in zip(table.tokens, norms, strict=True):
        by_script[script_of(surfaces[token])].append(float(norm))
    every = float(np.median(norms))
    usual = {script: float(np.median(known)) for script, known in by_script.items() if len(known) >= _ENOUGH}
    new = surfaces[len(surfaces) - len(rows) :]
    wanted = np.array([usual.get(script_of(surface), every) for surface in new], dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1)
    longer: Floats = (wanted / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return rows * longer[:, None]


def script_of(text: str) -> str:
    """The script of most letters, as Unicode names it (`ARABIC`, `LATIN`); "" where there is no letter."""
    scripts = Counter(unicodedata.name(letter, "").split(" ")[0] for letter in text if letter.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""
