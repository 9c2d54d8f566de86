"""Open compressed files as a stream of their content. A cut or damaged file is an error, never a shorter file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lingraft.errors import CorpusError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""Errors that reading a file may raise."""
_CHUNK = 1 << 16
_LONGEST_WINDOW: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 31}
"""The window of `zstd --long=31`; the default limit of the library is 2^27 bytes."""


class _Members(io.RawIOBase):
    """The decompressed members (streams, frames) of a file, one after another.

    `bz2.open` and `lzma.open` treat a member that they cannot read as the end of the file; here it is an error.
    """

    def __init__(self, path: Path, new_decompressor: Callable[[], Any]) -> None:
        self._file = path.open("rb")
        self._new = new_decompressor
        self._decompressor = new_decompressor()
        self._rest = b""
        self._has_begun = False
        self._padding = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        while True:
            if self._decompressor.eof:
                self._rest, self._decompressor = self._decompressor.unused_data, self._new()
                self._has_begun, self._padding = False, b"\0"  # xz: zeros may stand between members
            data = b""
            if self._decompressor.needs_input:
                data, self._rest = self._rest or self._file.read(_CHUNK), b""
                if not data and not self._has_begun:
                    return 0
                if not data:
                    raise EOFError("the compressed file ends before its end mark")
                if not self._has_begun and self._padding:
                    data = data.lstrip(self._padding)
                self._has_begun |= bool(data)
            if out := self._decompressor.decompress(data, len(view)) if self._has_begun else b"":
                view[: len(out)] = out
                return len(out)

    def close(self) -> None:
        self._file.close()
        super().close()


def _members_of(new_decompressor: Callable[[], Any]) -> Callable[[Path], IO[bytes]]:
    return lambda path: io.BufferedReader(_Members(path, new_decompressor), _CHUNK)


def _whole(path: Path) -> IO[bytes]:
    return path.open("rb")


COMPRESSIONS: dict[str, Callable[[Path], IO[bytes]]] = {
    ".gz": lambda path: io.BufferedReader(gzip.GzipFile(path)),
    ".bz2": _members_of(bz2.BZ2Decompressor),
    ".xz": _members_of(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    ".zst": _members_of(lambda: zstd.ZstdDecompressor(options=_LONGEST_WINDOW)),
}


def open_file(path: Path) -> IO[bytes]:
    """Open the content of a file, decompressed by the suffix of its name. The stream is buffered and has `peek`."""
    return COMPRESSIONS.get(path.suffix, _whole)(path)


def unreadable(path: Path, place: str, error: Exception) -> CorpusError:
    """The error for a file that the system does not let us read, or that is damaged at `place`."""
    if isinstance(error, OSError) and error.errno is not None:
        return CorpusError(f"{path} cannot be read: {error.strerror}")
    return CorpusError(
        f"{place}: here the file breaks off or is damaged ({error}); a part of it is not used for the whole: "
        "fetch it, or write it, once more"
    )
