"""Read the lines of text files in UTF-8, compressed or not, in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lingraft.corpus.compression import BROKEN, open_file, unreadable
from lingraft.corpus.dropped import DroppedText
from lingraft.errors import CorpusError

MAX_BYTES = 64 * 2**20
"""The limit of one line, record or document. Published corpora stay far below it; more suggests another format."""
TOO_LONG = f"longer than {MAX_BYTES // 2**20} MiB"

BYTE_ORDER_MARKS = {  # the longer mark of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def check_encoding(path: Path, file: IO[bytes]) -> None:
    """Refuse text in another encoding than UTF-8, by its first bytes.

    Raises:
        CorpusError: the file begins with the byte order mark of UTF-16 or UTF-32, or its beginning holds zero bytes.
    """
    head: bytes = _peek(file)
    for mark, name in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            raise CorpusError(
                f"{path}: this is {name}, and UTF-8 is read; convert it: "
                f"iconv -f {name} -t UTF-8 {path.name} > NEW (of a compressed file, what is in it)"
            )
    if b"\0" in head:
        raise CorpusError(f"{path}: this is no text in UTF-8: it holds zero bytes, as UTF-16 does and binary files do")


def _peek(file: Any) -> bytes:
    return bytes(file.peek(4096)[:4096])


def read_lines(path: Path, dropped: DroppedText) -> Iterator[tuple[str, str]]:
    """The lines, each with its place `file:line`. Lines that are not UTF-8 or too long are counted in `dropped`.

    Raises:
        CorpusError: the file is cut or damaged, not UTF-8 as a whole, or may not be read.
    """
    number = 0
    try:
        with open_file(path) as file:
            check_encoding(path, file)
            for number, raw in enumerate(_bounded(file), start=1):
                if raw is None:
                    dropped.add(f"lines {TOO_LONG}", f"{path}:{number}")
                    continue
                try:
                    yield f"{path}:{number}", raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    dropped.add("lines that are not UTF-8", f"{path}:{number}")
    except BROKEN as error:
        raise unreadable(path, f"{path}:{number + 1}", error) from None


def _bounded(file: IO[bytes]) -> Iterator[bytes | None]:
    """Each line, or `None` for one that is too long, of which no more than the limit is ever held."""
    while line := file.readline(MAX_BYTES + 1):
        if len(line) <= MAX_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(2**20)
        yield None
