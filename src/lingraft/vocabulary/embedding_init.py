"""Rows of embeddings and head for new tokens, made of the rows that are there."""

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
"""Rows of a script from which a median says something."""


class Table:
    """Embeddings or a head as a file has them: rows of old tokens, read where they lie."""

    def __init__(self, files: OpenFiles, tensor: StoredTensor, tokens: Sequence[int]) -> None:
        self.files, self.tensor = files, tensor
        self.tokens = np.array(tokens, dtype=np.int64)
        """Rows that have a token; the others are padding."""

    def __getitem__(self, rows: NDArray[np.int64]) -> Floats:
        """(rows, width), in float32; `rows` in ascending order."""
        return self.files.floats(self.tensor, rows)

    def _chunks(self) -> Iterator[Floats]:
        for start in range(0, len(self.tokens), _CHUNK):
            yield self[self.tokens[start : start + _CHUNK]]

    @cached_property
    def mean(self) -> Floats:
        """(width,): of the rows of all tokens."""
        total: NDArray[np.float64] = sum(rows.sum(0, dtype=np.float64) for rows in self._chunks())
        return (total / len(self.tokens)).astype(np.float32)

    def norms(self) -> NDArray[np.float64]:
        """(tokens,): length of the row of each token."""
        return np.concatenate([np.linalg.norm(rows.astype(np.float64), axis=1) for rows in self._chunks()])


def new_rows(table: Table, init: Init, pieces: Sequence[Sequence[int]], surfaces: Sequence[str]) -> Floats:
    """(new tokens, width): a row for each new token.

    `mean`: the mean of all rows. `subtoken-mean`: that of its old pieces. `subtoken-mean-norm`: the same, as long as
    the rows of its script mostly are (the median of their norms). `surfaces` are the texts of all tokens by id, the
    old ones first; `pieces` the old ids of each new one.
    """
    if init == "mean":
        return np.repeat(table.mean[None], len(pieces), axis=0)
    rows = _means(table, pieces)
    return rows if init == "subtoken-mean" else _as_long_as_its_script(rows, table, surfaces)


def _means(table: Table, pieces: Sequence[Sequence[int]]) -> Floats:
    used = np.unique(np.concatenate([np.array(of, dtype=np.int64) for of in pieces]))
    rows = table[used]
    return np.stack([rows[np.searchsorted(used, of)].mean(0) for of in pieces])


def _as_long_as_its_script(rows: Floats, table: Table, surfaces: Sequence[str]) -> Floats:
    norms = table.norms()
    by_script: defaultdict[str, list[float]] = defaultdict(list)
    for token, norm in zip(table.tokens, norms, strict=True):
        by_script[script_of(surfaces[token])].append(float(norm))
    every = float(np.median(norms))
    usual = {script: float(np.median(of)) for script, of in by_script.items() if len(of) >= _ENOUGH}
    new = surfaces[len(surfaces) - len(rows) :]
    wanted = np.array([usual.get(script_of(surface), every) for surface in new], dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1)
    longer: Floats = (wanted / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return rows * longer[:, None]


def script_of(text: str) -> str:
    """The script of most letters, as Unicode names it (`ARABIC`, `LATIN`); "" where there is no letter."""
    scripts = Counter(unicodedata.name(letter, "").split(" ")[0] for letter in text if letter.isalpha())
    return scripts.most_common(1)[0][0] if scripts else ""
