"""Write a checkpoint with more rows of embeddings: old rows stay bit for bit, new rows follow the old tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lingraft.checkpoints.dtypes import STORAGE, Bits, Floats, fits, narrow
from lingraft.checkpoints.shard_writer import ShardFiles, plan_shard, shard_files, verify_shards
from lingraft.checkpoints.weights import StoredTensor
from lingraft.errors import ModelError
from lingraft.merging.source_model import SourceModel
from lingraft.merging.tensor_reader import OpenFiles, open_files

ALIGNMENT = 128
"""The number of rows keeps its largest power-of-two divisor, up to this."""
_CHUNK_BYTES = 2**24


def padded(num_tokens: int, old_rows: int) -> int:
    """Rows for `num_tokens` tokens: at least `old_rows`, and a multiple of its power-of-two divisor."""
    multiple = min(ALIGNMENT, old_rows & -old_rows)
    return max(old_rows, -(-num_tokens // multiple) * multiple)


@dataclass(frozen=True)
class NewRows:
    """New rows of one tensor."""

    rows: Floats
    """(new tokens, width)."""
    padding: Floats
    """(width,), for rows without a token."""


def write_grown(parent: SourceModel, new: Mapping[str, NewRows], first: int, num_rows: int, folder: Path) -> None:
    """Write the weights of `parent` into an empty folder, tensors of `new` with `num_rows` rows.

    `new`: by canonical name of the tensor; its rows stand from row `first` on, where `parent` may have padding; rows
    before it that `parent` lacks are padding too. All other weights stay bit for bit, in shards of
    the same names.

    Raises:
        ModelError: a row with a number that is not finite in the file's type.
        OSError: the disk is full.
    """
    names = {tensor.name: name for name, tensor in parent.weights.items()}
    files: dict[str, list[tuple[str, str, tuple[int, ...]]]] = {}
    for name, tensor in parent.weights.items():
        shape = (num_rows, *tensor.shape[1:]) if name in new else tensor.shape
        files.setdefault(tensor.file.name, []).append((tensor.name, tensor.dtype, shape))
    shards = [plan_shard(folder / file, tensors) for file, tensors in files.items()]
    with open_files(tensor.file for tensor in parent.weights.values()) as read, shard_files(shards) as write:
        for tensor in (tensor for shard in shards for tensor in shard.tensors):
            old = parent.weights[names[tensor.name]]
            _copy(read, old, write, tensor)
            if added := new.get(names[tensor.name]):
                write.write(tensor, first, _rounded(added.rows, tensor))
                last = first + len(added.rows)
                for start, end in ((old.num_rows, first), (max(old.num_rows, last), num_rows)):
                    if start < end:
                        write.write(tensor, start, _rounded(np.tile(added.padding, (end - start, 1)), tensor))
    verify_shards(folder, shards)


def _copy(read: OpenFiles, old: StoredTensor, write: ShardFiles, new: StoredTensor) -> None:
    at_a_time = max(1, _CHUNK_BYTES // (old.row_size * STORAGE[old.dtype].itemsize))
    for start in range(0, old.num_rows, at_a_time):
        which = np.arange(start, min(start + at_a_time, old.num_rows))
        write.write(new, start, read.rows(old, which, np.empty((len(which), old.row_size), STORAGE[old.dtype])))


def _rounded(rows: Floats, tensor: StoredTensor) -> Bits:
    if not fits(rows, tensor.dtype):
        raise ModelError(f"tensor '{tensor.name}': a new row is not finite in {tensor.dtype}")
    bits = np.empty(rows.shape, STORAGE[tensor.dtype])
    return narrow(rows, tensor.dtype, bits, np.empty(rows.shape, np.uint32))
