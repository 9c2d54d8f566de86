"""Cut plain text into documents: at blank lines, at every line, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from lingraft.corpus.dropped import DroppedText
from lingraft.corpus.formats import PLAIN_TEXT, format_of
from lingraft.corpus.lines import MAX_BYTES, TOO_LONG, read_lines
from lingraft.errors import CorpusError

logger = logging.getLogger(__name__)

Split = Literal["paragraphs", "lines", "file"]
"""What one document of a .txt is: lines between blank lines, one line, or the whole file."""

DEFAULT_SPLIT: Split = "paragraphs"
ENDS_BEFORE: dict[Split, Callable[[str], bool]] = {
    "paragraphs": lambda line: not line.strip(),
    "lines": lambda line: True,
    "file": lambda line: False,
}
"""Whether a document that has begun ends before a line."""


def warn_of_one_document(files: Sequence[Path], split: Split | None, num_documents: int) -> None:
    """Warn where the default split made a single document of plain text, which may be meant as many."""
    if num_documents == 1 and split is None and format_of(files[0]) == PLAIN_TEXT:
        logger.warning(
            "%s: one document, since plain text is cut at blank lines; 'split: lines' takes each line for one, "
            "'split: file' says that this is meant",
            files[0],
        )


def read_plain_text(path: Path, split: Split | None, dropped: DroppedText) -> Iterator[tuple[str, str]]:
    """The documents of a text file, each with the place where it begins.

    Raises:
        CorpusError: as `read_lines`, or a document is longer than `MAX_BYTES`.
    """
    split = split or DEFAULT_SPLIT
    ends_before = ENDS_BEFORE[split]
    block: list[str] = []
    start, size = "", 0
    for place, line in read_lines(path, dropped):
        if block and ends_before(line):
            yield start, "".join(block).rstrip("\r\n")
            block, size = [], 0
        if block or line.strip():
            start = start if block else place
            block.append(line)
            size += len(line)
            if size > MAX_BYTES:
                raise CorpusError(
                    f"{start}: this document is {TOO_LONG}; split: {split} decides where a document of a .txt ends, "
                    "'split: lines' takes each line for one"
                )
    if block:
        yield start, "".join(block).rstrip("\r\n")
