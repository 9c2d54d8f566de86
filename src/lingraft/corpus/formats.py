"""Formats of files with text or records, told by the suffix of a name, with or without compression."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lingraft.corpus.compression import COMPRESSIONS
from lingraft.corpus.dropped import DroppedText
from lingraft.corpus.json_records import read_json, read_json_lines
from lingraft.corpus.parquet_records import read_parquet
from lingraft.errors import CorpusError

RecordReader = Callable[[Path, Sequence[str] | None, DroppedText], Iterator[tuple[str, Any]]]
"""(file, fields to read or `None` for all, dropped text) -> the place and value of each record."""

RECORDS: dict[str, RecordReader] = {".jsonl": read_json_lines, ".json": read_json, ".parquet": read_parquet}
"""Formats whose records have fields."""
PLAIN_TEXT = ".txt"
COMPRESSED_INSIDE = ".parquet"
COMPRESSION_RATIO = 3
"""Bytes of text per byte of a compressed file, about."""
FORMATS = (
    *(name + packed for name in (".jsonl", ".json", PLAIN_TEXT) for packed in ("", *COMPRESSIONS)),
    COMPRESSED_INSIDE,
)
_NAMES = f".jsonl, .json or .txt, each also with {', '.join(COMPRESSIONS)}; or in .parquet"


def format_of(path: Path) -> str:
    """`.jsonl`, `.json`, `.txt` or `.parquet`.

    Raises:
        CorpusError: the name ends in none of `FORMATS`.
    """
    packed = path.suffix in COMPRESSIONS
    name = Path(path.stem).suffix if packed else path.suffix
    if name + (path.suffix if packed else "") not in FORMATS:
        raise CorpusError(f"'{path}': cannot tell its format; file names end in {_NAMES}")
    return name


def is_packed(path: Path) -> bool:
    """Whether the content of a file is larger than the file."""
    return path.suffix in COMPRESSIONS or path.suffix == COMPRESSED_INSIDE


def text_bytes(path: Path) -> int:
    """About how many bytes of text a file has, by its size on the disk."""
    return path.stat().st_size * (COMPRESSION_RATIO if is_packed(path) else 1)


def record_reader(path: Path) -> RecordReader:
    """The function that reads the records of a file.

    Raises:
        CorpusError: the file is plain text, which has no fields, or of no format that is read.
    """
    reader = RECORDS.get(format_of(path))
    if reader is None:
        raise CorpusError(f"'{path}': plain text has no fields; give JSON Lines, JSON or Parquet")
    return reader


def as_list(patterns: str | Sequence[str] | None) -> list[str]:
    """One path or pattern, several, or none, as a list."""
    return [] if patterns is None else [patterns] if isinstance(patterns, str) else list(patterns)


def find_files(*patterns: str) -> list[Path]:
    """The files that paths or glob patterns name, those of a pattern sorted, relative to the current folder.

    Raises:
        CorpusError: there is none, or one has a suffix that is not in `FORMATS`.
    """
    return [path for pattern in patterns for path in matching_files(pattern, format_of, "*.jsonl.gz")]


def matching_files(pattern: str, check: Callable[[Path], object], example: str) -> list[Path]:
    """The files that one path or glob pattern names, sorted. `check` raises for a file of another kind.

    Raises:
        CorpusError: there is none; a folder, for which the message shows the pattern `example`; or as `check`.
    """
    by_name = glob.glob(glob.escape(pattern))  # a name may hold brackets
    paths = [Path(p) for p in by_name or sorted(glob.glob(pattern, recursive=True))]
    if not paths:
        raise CorpusError(f"no file matches '{pattern}' (looked for {Path(pattern).resolve()})")
    for path in paths:
        if not path.is_file():
            raise CorpusError(f"'{path}' is not a file; name the files in it, as in '{path}/{example}'")
        if (shown := str(path).encode("utf-8", "backslashreplace").decode()) != str(path):
            raise CorpusError(f"'{shown}': this name is not UTF-8, so no record can hold it; rename the file")
        check(path)
    return paths
