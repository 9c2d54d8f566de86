"""Local files of records or plain text: `files:` of a corpus entry."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lingraft.cache import file_fingerprint
from lingraft.corpus.dropped import DroppedText
from lingraft.corpus.formats import PLAIN_TEXT, find_files, format_of, text_bytes
from lingraft.corpus.plain_text import warn_of_one_document
from lingraft.corpus.read import file_rows, placed_rows, read_each
from lingraft.corpus.sources.base import ONE_OR_MORE, Row, Sample, found_by
from lingraft.corpus.sources.records import RecordSource

FilePatterns = Annotated[list[Annotated[str, found_by(find_files)]], Field(min_length=1), ONE_OR_MORE]
"""Paths and glob patterns of files in the formats of `corpus.formats`."""

SAMPLED_DOCUMENTS = 500
"""Documents of each file from which its size is estimated."""


class FileSource(RecordSource):
    """JSON Lines, JSON, Parquet and plain text, also compressed."""

    noun = "files"
    path_keys = ("files",)

    files: FilePatterns

    @cached_property
    def paths(self) -> list[Path]:
        return find_files(*self.files)

    def content(self, recorded: Any = None) -> list[str]:
        return [file_fingerprint(path) for path in self.paths]

    def rows(self, dropped: DroppedText) -> Iterator[Row]:
        return placed_rows(self.paths, self.fields, dropped, self.split)

    def samples(self) -> Iterator[Sample]:
        return read_each(self.paths, self._sample, DroppedText(), "document")

    def _sample(self, path: Path, dropped: DroppedText) -> Iterator[Sample]:
        rows = file_rows(path, self.fields, self.split, dropped)
        texts = [texts for _, texts in islice(rows, SAMPLED_DOCUMENTS)]
        if not texts:
            return
        if len(texts) < SAMPLED_DOCUMENTS:
            yield Sample(texts, 1)
            return
        sampled_bytes = sum(len(text.encode()) + 1 for row in texts for text in row)
        yield Sample(texts, max(1.0, text_bytes(path) / sampled_bytes))

    def warn(self, num_documents: int) -> None:
        warn_of_one_document(self.paths, self.split, num_documents)

    @property
    def cut_at_blank_lines(self) -> list[Path]:
        if self.split not in (None, "paragraphs"):
            return []
        return [path for path in self.paths if format_of(path) == PLAIN_TEXT]
