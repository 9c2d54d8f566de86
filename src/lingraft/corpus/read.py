"""Read documents and records from files, in every format and compression of `corpus.formats`.

Records that cannot be used are counted by reason, with the place of the first. A file that is cut or damaged, or
without one usable record, is an error. Memory does not grow with the size of a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lingraft.corpus.dropped import DroppedText, NothingDropped
from lingraft.corpus.formats import FORMATS, PLAIN_TEXT, find_files, format_of, record_reader
from lingraft.corpus.plain_text import ENDS_BEFORE, Split, read_plain_text
from lingraft.errors import CorpusError, nearest

__all__ = [
    "FORMATS",
    "DroppedText",
    "Split",
    "check_split",
    "field_texts",
    "file_rows",
    "find_files",
    "is_unicode",
    "placed_rows",
    "read_documents",
    "read_each",
    "read_records",
    "read_rows",
    "read_texts",
    "write_records",
    "write_texts",
]

_EMPTY = "empty documents"
_Rows = Iterator[tuple[str, tuple[str, ...]]]
_Read = TypeVar("_Read")


def read_documents(
    files: Sequence[Path], text_field: str, dropped: DroppedText, split: Split | None = None
) -> Iterator[str]:
    """The documents of files, in order: one a record; of plain text, as `split` says.

    Raises:
        CorpusError: a file without one usable document; the message has the reasons.
    """
    return (texts[0] for texts in read_rows(files, [text_field], dropped, split))


def read_rows(
    files: Sequence[Path], fields: Sequence[str], dropped: DroppedText, split: Split | None = None
) -> Iterator[tuple[str, ...]]:
    """As `read_documents`, with the texts of several fields of each record, in the order of `fields`.

    Raises:
        CorpusError: as `read_documents`; or several fields of plain text, which has none.
    """
    return (texts for _, texts in placed_rows(files, fields, dropped, split))


def placed_rows(
    files: Sequence[Path], fields: Sequence[str], dropped: DroppedText, split: Split | None = None
) -> _Rows:
    """As `read_rows`; each row has its place, `file:line`."""
    return read_each(files, lambda path, dropped: file_rows(path, fields, split, dropped), dropped, "document")


def file_rows(path: Path, fields: Sequence[str], split: Split | None, dropped: DroppedText) -> _Rows:
    """The place and texts of each usable record of one file; there may be none."""
    for place, texts in _rows(path, fields, split, dropped):
        if all(text.strip() for text in texts):
            yield place, texts
        else:
            dropped.add(_EMPTY, place)


def read_each(
    files: Sequence[Path], read: Callable[[Path, DroppedText], Iterator[_Read]], dropped: DroppedText, what: str
) -> Iterator[_Read]:
    """The values that `read` yields for each file, in order. An empty file is counted in `dropped`.

    Raises:
        CorpusError: a file has content, none of which can be used; or no file has a value.
    """
    has_any = False
    for path in files:
        dropped_here, is_used = DroppedText(), False
        try:
            for one in read(path, dropped_here):
                is_used = has_any = True
                yield one
        finally:
            dropped.include(dropped_here)
        if not is_used and set(dropped_here.counts) - {_EMPTY}:
            raise CorpusError(f"{path}: no {what} could be read: {dropped_here}")
        if not is_used and not dropped_here:
            dropped.add("empty files", str(path))
    if not has_any:
        raise CorpusError(f"{', '.join(map(str, files))}: no {what} could be read: {dropped}")


def _rows(path: Path, fields: Sequence[str], split: Split | None, dropped: DroppedText) -> _Rows:
    if format_of(path) == PLAIN_TEXT:
        if len(fields) > 1:
            named = ", ".join(fields)
            raise CorpusError(f"'{path}': plain text has no fields {named}; give pairs as JSON Lines or Parquet")
        yield from ((place, (text,)) for place, text in read_plain_text(path, split, dropped))
        return
    for place, record in record_reader(path)(path, fields, dropped):
        yield from field_texts(record, fields, place, dropped)


def read_records(files: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Every record of files, with its place.

    Raises:
        CorpusError: something is no record; the message has its place. Or there is no record at all.
    """
    seen = False
    for path in files:
        for place, record in record_reader(path)(path, None, NothingDropped()):
            seen = True
            yield place, record
    if not seen:
        raise CorpusError(f"{', '.join(map(str, files))}: there is no record")


def check_split(split: Split | None, files: Sequence[Path]) -> None:
    """Refuse a `split` that is unknown or has no effect.

    Raises:
        CorpusError: there is no such way to cut plain text, or no file is plain text.
    """
    if split is not None and split not in ENDS_BEFORE:
        raise CorpusError(f"split: {split}: allowed are {', '.join(ENDS_BEFORE)}{nearest(split, ENDS_BEFORE)}")
    if split is not None and not any(format_of(path) == PLAIN_TEXT for path in files):
        names = ", ".join(map(str, files)) or "a hub dataset"
        raise CorpusError(f"split: {split} cuts plain text (.txt), which {names} is not; remove it")


def field_texts(record: Any, fields: Sequence[str], place: str, dropped: DroppedText) -> _Rows:
    """The place and texts of a record; or nothing, and the reason is counted in `dropped`."""
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
        try:
            text = text.decode("utf-8") if isinstance(text, bytes) else text
        except UnicodeDecodeError:
            dropped.add("records that are not UTF-8", place)
            return
        if not isinstance(text, str):
            dropped.add(f"records whose '{field}' is not text", place)
            return
        if not is_unicode(text):
            dropped.add("records that are not valid Unicode", place)
            return
        texts.append(text)
    yield place, tuple(texts)


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded: JSON escapes can write a lone surrogate, which cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _value(record: Mapping[str, Any], field: str) -> Any:
    """The value of a field; of `outer.inner`, the value of `inner` in the mapping `outer`.

    Raises:
        KeyError: there is no such field.
    """
    if field in record:
        return record[field]
    outer, dot, inner = field.partition(".")
    if not dot or not isinstance(record.get(outer), dict):
        raise KeyError(field)
    return _value(record[outer], inner)


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON Lines, which `read_records` reads."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """Write texts as JSON Lines with the field `text`."""
    write_records(path, ({"text": text} for text in texts))


def read_texts(path: Path) -> list[str]:
    """The texts of a file that `write_texts` wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]
