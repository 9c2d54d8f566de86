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
import os
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
        if (name := os.fsencode(path).decode("utf-8", "backslashreplace")) != str(path):
            raise CorpusError(f"'{name}': the name is not UTF-8 throughout; rename the file")
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
    return (texts[0] for texts in read_rows(files, [text_field], dropped))


def read_rows(files: Sequence[Path], fields: Sequence[str], dropped: DroppedText) -> Iterator[tuple[str, ...]]:
    """As `read_documents`, with the texts of several fields of each record, in their order.

    Raises:
        CorpusError: as there, or plain text, which has no fields, is to have several.
    """
    seen = False
    for path in files:
        for place, texts in _format_of(path)(path, fields, dropped):
            if all(text.strip() for text in texts):
                seen = True
                yield texts
            else:
                dropped.add("empty documents", place)
    if not seen:
        names = ", ".join(str(f) for f in files)
        raise CorpusError(f"{names}: no document could be read: {dropped or 'the file is empty'}")


_Lines = Iterator[tuple[str, str]]
_Rows = Iterator[tuple[str, tuple[str, ...]]]
_Reader = Callable[[Path, Sequence[str], DroppedText], _Rows]


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


def _lines(path: Path, dropped: DroppedText) -> _Lines:
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


def json_records(path: Path, dropped: DroppedText) -> Iterator[tuple[str, Any]]:
    """Every record of a JSON Lines file with its place; lines that are none are counted.

    Raises:
        CorpusError: the file's name says that it is of another format.
    """
    if _format_of(path) is not _read_json_lines:
        raise CorpusError(f"'{path}': is not JSON Lines; give .jsonl, .jsonl.gz or .jsonl.zst")
    for place, line in _lines(path, dropped):
        if line.strip():
            try:
                yield place, json.loads(line)
            except (ValueError, RecursionError):
                dropped.add("lines that are not JSON", place)


def _read_json_lines(path: Path, fields: Sequence[str], dropped: DroppedText) -> _Rows:
    for place, record in json_records(path, dropped):
        yield from field_texts(record, fields, place, dropped)


def field_texts(record: Any, fields: Sequence[str], place: str, dropped: DroppedText) -> _Rows:
    """The place and texts of a record, or nothing, with the reason counted."""
    if not isinstance(record, dict):
        dropped.add("lines that are not a JSON object", place)
        return
    texts = []
    for field in fields:
        try:
            text = _value(record, field)
        except KeyError:
            dropped.add(f"records without the field '{field}'", f"{place}, with the fields {', '.join(record)}")
            return
        if not isinstance(text, str):
            dropped.add(f"records whose '{field}' is not text", place)
            return
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # a lone surrogate, written as \ud800
            dropped.add("records that are not valid Unicode", place)
            return
        texts.append(text)
    yield place, tuple(texts)


def _value(record: Mapping[str, Any], field: str) -> Any:
    """What stands under a name, or under `outer.inner` in a mapping within the record.

    Raises:
        KeyError: nothing.
    """
    if field in record:
        return record[field]
    outer, dot, inner = field.partition(".")
    if not dot or not isinstance(record.get(outer), dict):
        raise KeyError(field)
    return _value(record[outer], inner)


def _read_plain_text(path: Path, fields: Sequence[str], dropped: DroppedText) -> _Rows:
    """Documents are parted by blank lines."""
    if len(fields) > 1:
        raise CorpusError(
            f"'{path}': plain text has no fields {', '.join(fields)}; give pairs as JSON Lines or Parquet"
        )
    block: list[str] = []
    start = ""
    for place, line in _lines(path, dropped):
        if line.strip():
            start = start if block else place
            block.append(line)
        elif block:
            yield start, ("".join(block).rstrip("\r\n"),)
            block = []
    if block:
        yield start, ("".join(block).rstrip("\r\n"),)


def _read_parquet(path: Path, fields: Sequence[str], dropped: DroppedText) -> _Rows:
    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            names = list(dict.fromkeys(field if field in there else field.partition(".")[0] for field in fields))
            if missing := [name for name in names if name not in there]:
                place = f"{path}, with the fields {', '.join(there)}"
                dropped.add(f"records without the field '{missing[0]}'", place, file.metadata.num_rows)
                return
            for batch in file.iter_batches(batch_size=256, columns=names):
                columns = [_as_bytes(batch.column(name)).to_pylist() for name in names]
                for values in zip(*columns, strict=True):
                    row += 1
                    place = f"{path}:row {row}"
                    try:
                        record = {
                            name: value.decode("utf-8") if isinstance(value, bytes) else value
                            for name, value in zip(names, values, strict=True)
                        }
                    except UnicodeDecodeError:
                        dropped.add("records that are not UTF-8", place)
                        continue
                    yield from field_texts(record, fields, place, dropped)
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
