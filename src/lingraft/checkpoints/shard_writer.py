"""Write safetensors in chunks: no whole tensor or shard is ever in memory.

The length of a file is known before its first weight is written, so its disk space is reserved first. The
header is written last: until then the file begins with zeros, and no library loads it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from lingraft.cache import write_json
from lingraft.checkpoints.dtypes import Bits
from lingraft.checkpoints.weights import INDEX, SINGLE, StoredTensor, find_weights
from lingraft.errors import LingraftError

_FLUSH_SECONDS = 0.05


@dataclass(frozen=True)
class Shard:
    """A planned file: its header, and the offsets of its tensors."""

    file: Path
    header: bytes
    tensors: tuple[StoredTensor, ...]

    @property
    def num_bytes(self) -> int:
        return len(self.header) + sum(tensor.num_bytes for tensor in self.tensors)


def plan_shard(file: Path, tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> Shard:
    """Plan a file with these tensors, given as (name, dtype, shape), one after the other."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    unplaced, end = [], 0
    for name, dtype, shape in tensors:
        tensor = StoredTensor(name, file, end, dtype, shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": (end, end + tensor.num_bytes)}
        unplaced.append(tensor)
        end += tensor.num_bytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    placed = tuple(
        StoredTensor(tensor.name, file, len(header) + tensor.start, tensor.dtype, tensor.shape) for tensor in unplaced
    )
    return Shard(file, header, placed)


class ShardFiles:
    """Shards open for writing, at any offset, from any thread."""

    def __init__(self, descriptors: Mapping[Path, int]) -> None:
        self._descriptors = descriptors

    def write(self, tensor: StoredTensor, first_row: int, bits: Bits) -> None:
        """Write consecutive rows of a tensor."""
        start = tensor.start + first_row * tensor.row_size * bits.itemsize
        _write(self._descriptors[tensor.file], start, bits.data.cast("B"))


def _write(descriptor: int, start: int, view: memoryview | bytes) -> None:
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], start + done)


def _reserve(descriptor: int, num_bytes: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, num_bytes)
    except (AttributeError, OSError) as error:  # some systems and file systems do not support it
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(descriptor, num_bytes)


@contextmanager
def shard_files(shards: Iterable[Shard]) -> Iterator[ShardFiles]:
    """Reserve disk space for the shards; write headers and an index when the block ends.

    Raises:
        OSError: the disk is full.
    """
    shards = list(shards)
    descriptors: dict[Path, int] = {}
    try:
        for shard in shards:
            descriptors[shard.file] = os.open(shard.file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            _reserve(descriptors[shard.file], shard.num_bytes)
        with _flushed(descriptors.values()):
            yield ShardFiles(descriptors)
        for shard in shards:
            _write(descriptors[shard.file], 0, shard.header)
            os.fsync(descriptors[shard.file])
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
    if [shard.file.name for shard in shards] != [SINGLE]:
        _write_index(shards)


@contextmanager
def _flushed(descriptors: Iterable[int]) -> Iterator[None]:
    """Flush files in the background while they are written, so that the final flush is short."""
    done, failed = Event(), list[OSError]()

    def flush() -> None:
        try:
            while not done.wait(_FLUSH_SECONDS):
                for descriptor in descriptors:
                    os.fdatasync(descriptor)
        except OSError as error:  # the kernel reports a write error only once
            failed.append(error)

    thread = Thread(target=flush, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failed:
        raise failed[0]


def _write_index(shards: list[Shard]) -> None:
    tensors = [tensor for shard in shards for tensor in shard.tensors]
    write_json(
        shards[0].file.parent / INDEX,
        {
            "metadata": {"total_size": sum(tensor.num_bytes for tensor in tensors)},
            "weight_map": {tensor.name: tensor.file.name for tensor in tensors},
        },
    )


def verify_shards(folder: Path, shards: Iterable[Shard]) -> None:
    """Read the written files back, and compare names, offsets, dtypes and shapes with the plan.

    Raises:
        LingraftError: the files differ from the plan.
    """
    meant = {tensor.name: tensor for shard in shards for tensor in shard.tensors}
    if find_weights(folder) != meant:
        raise LingraftError(f"{folder}: the written files do not hold the planned tensors")
