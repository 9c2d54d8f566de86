"""Read rows of stored tensors as float32."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingraft.checkpoints.adapters import LowRank
from lingraft.checkpoints.dtypes import STORAGE, Bits, Floats, finite, widen
from lingraft.checkpoints.weights import StoredTensor
from lingraft.errors import ModelError
from lingraft.merging.vocabulary_alignment import RowIndex

CHUNK = 2**17
"""Parameters per chunk: in float32 they fit into a core's cache."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Operand:
    """A parent's tensor as a term of a formula."""

    parent: str
    """Its name, for messages."""
    tensor: StoredTensor
    row_of: RowIndex | None = None
    """Row of the result -> row of the tensor; `None`: the same."""
    low_rank: LowRank | None = None

    def own(self, rows: Rows) -> Rows:
        """Rows of the tensor for rows of the result."""
        return rows if self.row_of is None else self.row_of[rows]


class OpenFiles:
    """Files that tensors are read from, each opened once, read at any place by any thread."""

    def __init__(self, descriptors: dict[Path, int]) -> None:
        self._descriptors = descriptors

    def read(self, file: Path, start: int, into: Bits) -> None:
        """Fill `into`, which is contiguous, from byte `start`."""
        view = into.data.cast("B")
        done = 0
        while done < len(view):
            count = os.preadv(self._descriptors[file], [view[done:]], start + done)
            if count == 0:
                raise ModelError(f"{file}: the file became shorter while it was read")
            done += count

    def rows(self, tensor: StoredTensor, rows: Rows, into: Bits) -> Bits:
        """Fill `into`, (rows, row size), with rows of a tensor."""
        row_bytes = tensor.row_size * into.itemsize
        for first, last in runs(rows):
            self.read(tensor.file, tensor.start + int(rows[first]) * row_bytes, into[first:last])
        return into

    def floats(self, tensor: StoredTensor, rows: Rows) -> Floats:
        """(rows, row size): rows of a tensor in float32."""
        bits = np.empty((len(rows), tensor.row_size), STORAGE[tensor.dtype])
        return widen(self.rows(tensor, rows, bits), np.empty(bits.shape, np.float32))


@contextmanager
def open_files(files: Iterable[Path]) -> Iterator[OpenFiles]:
    """Open files for reading until the block ends."""
    descriptors: dict[Path, int] = {}
    try:
        for file in files:
            if file not in descriptors:
                descriptors[file] = os.open(file, os.O_RDONLY)
        yield OpenFiles(descriptors)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


class Desk:
    """Buffers of one thread. An array is valid until the next call of the same method."""

    def __init__(self, files: OpenFiles, size: int) -> None:
        """`size`: the most parameters in a chunk."""
        self._files = files
        self._bits = {dtype: np.empty(size, storage) for dtype, storage in STORAGE.items()}
        self._rounded = {dtype: np.empty(size, storage) for dtype, storage in STORAGE.items()}
        self._numbers, self._sum, self._whole = (np.empty(size, np.float32) for _ in range(3))
        self._down: tuple[StoredTensor, Floats] | None = None

    def bits(self, operand: Operand, rows: Rows) -> Bits:
        """(rows, row size): rows of an operand's tensor in their stored dtype."""
        tensor = operand.tensor
        into = _shaped(self._bits[tensor.dtype], (len(rows), tensor.row_size))
        return self._files.rows(tensor, operand.own(rows), into)

    def numbers(self, operand: Operand, rows: Rows) -> Floats:
        """(rows, row size): rows of an operand, with what an adapter adds to them."""
        bits = self.bits(operand, rows)
        numbers = widen(bits, _shaped(self._numbers, bits.shape))
        if operand.low_rank is not None:
            numbers += self.low_rank(operand, rows)
        return numbers

    def low_rank(self, operand: Operand, rows: Rows) -> Floats:
        """(rows, row size): scale * up @ down of an adapter."""
        factors = operand.low_rank
        assert factors is not None
        up = self._files.floats(factors.up, operand.own(rows))
        if self._down is None or self._down[0] is not factors.down:  # the next rows need it again
            self._down = factors.down, self._files.floats(factors.down, np.arange(factors.down.num_rows))
        return np.float32(factors.scale) * (up @ self._down[1])

    def not_finite(self, operand: Operand, rows: Rows) -> Iterator[StoredTensor]:
        """The stored tensors of an operand that hold NaN or Inf in these rows."""
        if not finite(self.bits(operand, rows)):
            yield operand.tensor
        if operand.low_rank is not None:
            for factor in (operand.low_rank.up, operand.low_rank.down):
                if not np.isfinite(self._files.floats(factor, np.arange(factor.num_rows))).all():
                    yield factor

    def sum(self, shape: tuple[int, int]) -> Floats:
        """An array for results."""
        return _shaped(self._sum, shape)

    def rounded(self, dtype: str, shape: tuple[int, int]) -> Bits:
        """An array for results in their stored dtype."""
        return _shaped(self._rounded[dtype], shape)

    def whole(self, shape: tuple[int, int]) -> NDArray[np.uint32]:
        """An integer array for rounding."""
        return _shaped(self._whole, shape).view(np.uint32)


def _shaped(array: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    return array[: shape[0] * shape[1]].reshape(shape)


def runs(rows: Rows) -> Iterator[tuple[int, int]]:
    """Stretches `[first, last)` of consecutive row numbers."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    yield from zip([0, *ends.tolist()], [*ends.tolist(), len(rows)], strict=True)


def chunks(num_rows: int, row_size: int) -> Iterator[Rows]:
    """The rows of a tensor, as many at a time as make a chunk."""
    step = max(1, CHUNK // max(1, row_size))
    for first in range(0, num_rows, step):
        yield np.arange(first, min(first + step, num_rows))
