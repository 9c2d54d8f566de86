"""Long texts in parts, and texts in batches of a bounded size: a tokenizer takes some 250 bytes for each byte.

A text is cut after a line, or before a space, where tokenizers that cut at white space cut too: the tokens of the
parts are then those of the whole. Where SentencePiece puts a space before every text, it does so before every part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

LONGEST_PART = 2**20
"""Characters. Few documents have as many; a book has about half."""
BATCH_SIZE = 2**20
"""Characters that are tokenized at once: some 250 megabytes, whatever the documents are."""
_CUTS = (re.compile(r"(?<=\S\n)(?=\S)"), re.compile(r"(?<=\w)(?= \w)"))
_One = TypeVar("_One")


def text_parts(text: str) -> Iterator[str]:
    """The text itself, or parts that make it up, of `LONGEST_PART` characters at most."""
    start = 0
    while len(text) - start > LONGEST_PART:
        end = start + LONGEST_PART
        near = end - LONGEST_PART // 16
        cuts = (max((match.start() for match in cut.finditer(text, near, end)), default=0) for cut in _CUTS)
        end = next((cut for cut in cuts if cut > start), end)
        yield text[start:end]
        start = end
    yield text[start:]


def batches(
    items: Iterable[_One], size: Callable[[_One], int], most: int, most_size: int | None = None
) -> Iterator[list[_One]]:
    """Items in order, `most` at once, and no more than `most_size` (`BATCH_SIZE`), or one that is larger."""
    most_size = most_size or BATCH_SIZE
    batch: list[_One] = []
    total = 0
    for item in items:
        if batch and (len(batch) == most or total + size(item) > most_size):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch
