"""Documents out of files: JSON Lines, Parquet and plain text, whole or compressed.

What cannot be used is counted by reason, with the file and line where it first stood; text of
which nothing is left is an error. Memory does not grow with a file.
"""

from __future__ import annotations

import glob
import gzip
import io
import json
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as parquet

from lingraft.errors import CorpusError

logger = logging.getLogger(__name__)

FORMATS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".txt", ".txt.gz", ".txt.zst")


def find_files(*patterns: str) -> list[Path]:
    """The files that paths or glob patterns name, those of a pattern sorted, relative to the current folder.

    Raises:
        CorpusError: there is none, or one has a suffix that is not in `FORMATS`.
    """
    return [path for pattern in patterns for path in _matching(pattern)]


def _matching(pattern: str) -> list[Path]:
    by_name = glob.glob(glob.escape(pattern))  # a name may hold brackets
    paths = [Path(p) for p in by_name or sorted(glob.glob(pattern, recursive=True))]
    if not paths:
        raise CorpusError(f"no file matches '{pattern}' (looked for {Path(pattern).resolve()})")
    for path in paths:
        if not path.is_file():
            raise CorpusError(f"'{path}' is not a file; name the files in it, as in '{path}/*.jsonl.gz'")
        _format_of(path)
    return paths


class DroppedText:
    """Counts what was left out of a corpus, by reason, with the place of the first of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first_place: dict[str, str] = {}

    def add(self, reason: str, place: str, count: int = 1) -> None:
        self.counts[reason] += count
        self.first_place.setdefault(reason, place)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        return "; ".join(f"{n} {reason} (first: {self.first_place[reason]})" for reason, n in self.counts.items())


def read_documents(files: Sequence[Path], text_field: str, dropped: DroppedText) -> Iterator[str]:
    """The documents of files, in order; one a record, in plain text one a paragraph block.

    Raises:
        CorpusError: not one document could be read; says what stood in the way.
    """
    seen = False
    for path in files:
        for place, text in _format_of(path)(path, text_field, dropped):
            if text.strip():
                seen = True
                yield text
            else:
                dropped.add("empty documents", place)
    if not seen:
        names = ", ".join(str(f) for f in files)
        raise CorpusError(f"{names}: no document could be read: {dropped or 'the file is empty'}")


_Places = Iterator[tuple[str, str]]
_Reader = Callable[[Path, str, DroppedText], _Places]


def _format_of(path: Path) -> _Reader:
    readers: dict[str, _Reader] = {".jsonl": _read_json_lines, ".txt": _read_plain_text}
    if path.suffix == ".parquet":
        return _read_parquet
    suffixes = path.suffixes[:-1] if path.suffix in (".gz", ".zst") else path.suffixes
    reader = readers.get(suffixes[-1]) if suffixes else None
    if reader is None:
        raise CorpusError(f"'{path}': cannot tell its format; file names end in {', '.join(FORMATS)}")
    return reader


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.open(path))
    if path.suffix == ".zst":
        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def _lines(path: Path, dropped: DroppedText) -> _Places:
    """Lines of a text file that are UTF-8, each with its place `file:line`."""
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                try:
                    yield f"{path}:{number}", raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    dropped.add("lines that are not UTF-8", f"{path}:{number}")
    except (EOFError, zlib.error, OSError) as error:
        _check_readable(path, error)
        dropped.add(f"files that break off ({error})", f"{path}:{number + 1}")


def _check_readable(path: Path, error: Exception) -> None:
    """Tell a file that is broken from one that the system does not let us read."""
    if isinstance(error, OSError) and error.errno is not None:
        raise CorpusError(f"{path} cannot be read: {error.strerror}") from None


def read_records(files: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Every record of JSON Lines files with its place; nothing is left out.

    Raises:
        CorpusError: a line that is not JSON in UTF-8, with its place, or files without a record.
    """
    seen, dropped = False, DroppedText()
    for path in files:
        for place, line in _lines(path, dropped):
            if line.strip():
                seen = True
                try:
                    yield place, json.loads(line)
                except (ValueError, RecursionError):
                    raise CorpusError(f"{place}: this line is not JSON; give JSON Lines, a record a line") from None
    if dropped:
        raise CorpusError(f"these files cannot be read whole: {dropped}")
    if not seen:
        raise CorpusError(f"{', '.join(map(str, files))}: there is no record")


def _read_json_lines(path: Path, text_field: str, dropped: DroppedText) -> _Places:
    for place, line in _lines(path, dropped):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            dropped.add("lines that are not JSON", place)
            continue
        yield from field_text(record, text_field, place, dropped)


def field_text(record: Any, text_field: str, place: str, dropped: DroppedText) -> _Places:
    """The place and text of a record, or nothing, with the reason counted."""
    if not isinstance(record, dict):
        dropped.add("lines that are not a JSON object", place)
    elif text_field not in record:
        dropped.add(f"records without the field '{text_field}'", f"{place}, with the fields {', '.join(record)}")
    elif not isinstance(record[text_field], str):
        dropped.add(f"records whose '{text_field}' is not text", place)
    else:
        try:
            record[text_field].encode("utf-8")
        except UnicodeEncodeError:  # a lone surrogate, written as \ud800
            dropped.add("records that are not valid Unicode", place)
        else:
            yield place, record[text_field]


def _read_plain_text(path: Path, text_field: str, dropped: DroppedText) -> _Places:
    """Documents are parted by blank lines."""
    block: list[str] = []
    start = ""
    for place, line in _lines(path, dropped):
        if line.strip():
            start = start if block else place
            block.append(line)
        elif block:
            yield start, "".join(block).rstrip("\r\n")
            block = []
    if block:
        yield start, "".join(block).rstrip("\r\n")


def _read_parquet(path: Path, text_field: str, dropped: DroppedText) -> _Places:
    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            if text_field not in file.schema_arrow.names:
                place = f"{path}, with the fields {', '.join(file.schema_arrow.names)}"
                dropped.add(f"records without the field '{text_field}'", place, file.metadata.num_rows)
                return
            for batch in file.iter_batches(batch_size=256, columns=[text_field]):
                for value in _as_bytes(batch.column(0)).to_pylist():
                    row += 1
                    place = f"{path}:row {row}"
                    try:
                        record = {text_field: value.decode("utf-8") if isinstance(value, bytes) else value}
                    except UnicodeDecodeError:
                        dropped.add("records that are not UTF-8", place)
                        continue
                    yield from field_text(record, text_field, place, dropped)
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        _check_readable(path, error)
        dropped.add(f"files that break off ({error})", f"{path}:row {row + 1}")


def _as_bytes(column: pa.Array) -> pa.Array:
    """Text as bytes, so that one value that is not UTF-8 does not cost the others."""
    if pa.types.is_large_string(column.type):
        return column.cast(pa.large_binary())
    return column.cast(pa.binary()) if pa.types.is_string(column.type) else column


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """JSON Lines, as `read_records` reads them."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """Texts as JSON Lines with the field `text`."""
    write_records(path, ({"text": text} for text in texts))


def read_texts(path: Path) -> list[str]:
    """What `write_texts` wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]
