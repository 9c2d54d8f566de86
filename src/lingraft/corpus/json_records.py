"""Read records from JSON Lines (`.jsonl`) and JSON (`.json`: an array of records, or records one after another).

A record that gives a field twice is counted as dropped, since one of the values would be lost. NaN and Infinity are no
JSON, but Python and pandas write them; they are read, so that the text of such records is kept.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from lingraft.corpus.compression import BROKEN, open_file, unreadable
from lingraft.corpus.dropped import DroppedText
from lingraft.corpus.lines import MAX_BYTES, TOO_LONG, check_encoding, read_lines
from lingraft.errors import CorpusError

Records = Iterator[tuple[str, Any]]
"""The place of each record and the record, which may be no object."""

_CHUNK = 2**20
REPEATED = "records that give a field twice"


class _NoRecordsError(ValueError):
    """The file is JSON, but neither a complete array of records nor a sequence of objects."""


class _Decoder(json.JSONDecoder):
    """Python's decoder, which also notes whether a record gave a field twice."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=self._record)
        self.is_repeated = False

    def _record(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        self.is_repeated |= len(record) < len(pairs)
        return record


def _reason(error: Exception) -> str:
    """Why a text gave no record, worded to follow a count."""
    if isinstance(error, RecursionError):
        return "records that are nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return "lines that are not JSON"
    return "records with a number of too many digits"  # thousands: Python refuses them


def read_json_lines(path: Path, fields: Sequence[str] | None, dropped: DroppedText) -> Records:
    """One record a line; lines that are no JSON are counted in `dropped`."""
    decoder = _Decoder()
    for place, line in read_lines(path, dropped):
        if not line.strip():
            continue
        decoder.is_repeated = False
        try:
            record = decoder.decode(line)
        except (ValueError, RecursionError) as error:
            dropped.add(_reason(error), place)
            continue
        if decoder.is_repeated:
            dropped.add(REPEATED, place)
        else:
            yield place, record


def read_json(path: Path, fields: Sequence[str] | None, dropped: DroppedText) -> Records:
    """The records of one array, or objects one after another; memory grows with the longest record only.

    Raises:
        CorpusError: the file is not JSON. After a fault the start of the next record is not known.
    """
    number, decoder = 0, _Decoder()
    try:
        with open_file(path) as file:
            check_encoding(path, file)
            text = _Reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), decoder)
            for number, record in enumerate(text.records(), start=1):
                place = f"{path}:record {number}"
                if decoder.is_repeated:
                    dropped.add(REPEATED, place)
                else:
                    yield place, record
                decoder.is_repeated = False
    except UnicodeDecodeError:
        raise CorpusError(f"{path}: after record {number}: this is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, _NoRecordsError) else _reason(error).replace("lines that are", "this is")
        raise CorpusError(f"{path}: after record {number}: {what}; the rest of the file cannot be read") from None
    except BROKEN as error:
        raise unreadable(path, f"{path}:record {number + 1}", error) from None


class _Reader:
    """Values of a file, read piece by piece: memory holds the value that is being read."""

    def __init__(self, file: TextIO, decoder: json.JSONDecoder) -> None:
        self._file, self._decoder = file, decoder
        self._text, self._position, self._ended = "", 0, False

    def records(self) -> Iterator[Any]:
        """The values, in order.

        Raises:
            ValueError: the file is not JSON, or `_NoRecordsError`.
        """
        if self._next_sign() != "[":
            while sign := self._next_sign():
                if sign != "{":
                    raise _NoRecordsError("a .json holds an array of records, or objects one after another")
                yield self._value()
            return
        self._position += 1
        if self._next_sign() != "]":
            yield self._value()
            while self._next_sign() == ",":
                self._position += 1
                yield self._value()
        if self._next_sign() != "]":
            raise _NoRecordsError(
                "the array goes on with neither ',' nor ']'" if self._next_sign() else "the array is cut"
            )
        self._position += 1
        if self._next_sign():
            raise _NoRecordsError("something follows the array")

    def _next_sign(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            while self._position < len(self._text) and self._text[self._position].isspace():
                self._position += 1
            if self._position < len(self._text):
                return self._text[self._position]
            if self._ended:
                return ""
            self._read_on()

    def _value(self) -> Any:
        self._next_sign()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._position)
            except json.JSONDecodeError:
                if self._ended:
                    raise
            else:
                if end < len(self._text) or self._ended:  # else a number may go on
                    self._position = end
                    return value
            if len(self._text) - self._position > MAX_BYTES:
                raise _NoRecordsError(
                    f"no record ends within {MAX_BYTES // 2**20} MiB: not JSON, or one that is {TOO_LONG}"
                )
            self._read_on()

    def _read_on(self) -> None:
        """Read on, at least as much as is held: the text doubles, so that a long value is tried few times."""
        more = self._file.read(max(_CHUNK, len(self._text) - self._position))
        self._ended = not more
        self._text, self._position = self._text[self._position :] + more, 0
