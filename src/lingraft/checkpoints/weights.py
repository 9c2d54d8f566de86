"""Find the tensors of a model folder by name, without reading them: file, offset, dtype, shape.

Only safetensors: the header's length (8 bytes, little endian), a header in JSON, then the bytes of the
tensors; one file, or several with an index from tensor to file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.checkpoints.dtypes import STORAGE
from lingraft.errors import ModelError
from lingraft.layer_groups import is_buffer

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000
_PICKLES = ("*.bin", "*.pt", "*.pth")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: row after row from byte `start`."""

    name: str
    file: Path
    start: int
    dtype: str
    """safetensors' name: BF16, F16, F32."""
    shape: tuple[int, ...]

    @property
    def num_rows(self) -> int:
        """Length of the first axis; each element of a vector is a row."""
        return self.shape[0] if self.shape else 1

    @property
    def row_size(self) -> int:
        """Elements in a row."""
        return math.prod(self.shape[1:])

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * STORAGE[self.dtype].itemsize


Weights = dict[str, StoredTensor]
"""The tensors of a checkpoint by name, in the order of its files."""


def find_weights(folder: Path) -> Weights:
    """The tensors of a model folder.

    Raises:
        ModelError: no safetensors, an index that does not match the files, a truncated file,
            or weights of an unsupported dtype.
    """
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file():  # transformers takes it first too
        return read_header(single)
    if index.is_file():
        return _by_index(index)
    if any(path for pattern in _PICKLES for path in folder.glob(pattern)):
        raise ModelError(
            f"{folder}: there are only pickled weights, and a pickle can run any code when it is opened; "
            f"lingraft reads {SINGLE} only: load the model where you trust it and save it again with save_pretrained"
        )
    raise ModelError(f"{folder}: there are no weights; lingraft reads {SINGLE}, or shards and {INDEX}")


def read_header(path: Path) -> Weights:
    """The tensors of one safetensors file.

    Raises:
        ModelError: it is no safetensors file, was truncated, or holds weights of an unsupported dtype.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = _parsed(file.read(length)) if 0 < length <= min(size - 8, _MAX_HEADER_BYTES) else None
    if header is None:
        raise ModelError(f"{path}: this is not a safetensors file, or it was cut short; fetch it again")
    header.pop("__metadata__", None)
    tensors = [_located(path, name, entry, 8 + length) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.num_bytes))
    end = 8 + length
    for tensor in tensors:
        if tensor.start != end:
            raise _damaged(path)
        end += tensor.num_bytes
    if end != size:
        raise ModelError(f"{path}: the file was cut short or added to: {size:,} bytes of {end:,}; fetch it again")
    return {tensor.name: tensor for tensor in tensors if not is_buffer(tensor.name)}


def _parsed(header: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _located(path: Path, name: str, entry: Any, data: int) -> StoredTensor:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        counts = [*shape, start, end]
    except (KeyError, TypeError, ValueError):
        raise _damaged(path) from None
    if not isinstance(dtype, str) or dtype not in STORAGE:
        raise ModelError(
            f"{path}: tensor '{name}' has weights of type {dtype!s:.40}; supported are {', '.join(STORAGE)}"
        )
    if not all(type(count) is int and count >= 0 for count in counts):
        raise _damaged(path)
    tensor = StoredTensor(name, path, data + start, dtype, tuple(shape))
    if tensor.num_bytes != end - start:
        raise _damaged(path)
    return tensor


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path}: the header of this safetensors file is damaged; fetch it again")


def _by_index(index: Path) -> Weights:
    try:
        shard_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = list(dict.fromkeys(shard_of.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{index}: this is not an index of shards; fetch it again") from None
    if not names:
        raise ModelError(f"{index}: it names no shard; fetch it again")
    weights: Weights = {}
    for tensors in map(read_header, _shards(index, names)):
        weights.update({name: tensor for name, tensor in tensors.items() if shard_of.get(name) == tensor.file.name})
    missing = [name for name in shard_of if name not in weights and not is_buffer(name)]
    if missing:
        raise ModelError(f"{index}: '{missing[0]}' is not in {shard_of[missing[0]]}, where the index has it")
    return weights


def _shards(index: Path, names: list[Any]) -> Iterator[Path]:
    present = {path.name for path in index.parent.iterdir() if path.is_file()}  # no name opens a file outside
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
            raise ModelError(f"{index}: it names '{name!s:.80}', which is not a file of this folder; do not trust it")
        if name not in present:
            raise ModelError(f"{index.parent}: the shard {name:.80} is missing; fetch it again")
        yield index.parent / name
