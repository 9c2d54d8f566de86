"""Cut long texts into parts, and group texts into batches of bounded size.

A tokenizer needs about 250 bytes of memory per byte of text.

A text is cut after a line or before a space. Tokenizers that split at white space split there too, so the tokens of the
parts are the tokens of the whole. SentencePiece models that put a space before each text put one before each part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

LONGEST_PART = 2**20
"""Characters; about two books. Few documents have as many."""
BATCH_SIZE = 2**20
"""Characters that are tokenized at once, which takes about 250 megabytes."""
_CUTS = (re.compile(r"(?<=\S\n)(?=\S)"), re.compile(r"(?<=\w)(?= \w)"))
_One = TypeVar("_One")


def text_parts(text: str) -> Iterator[str]:
    """The parts of a text, of at most `LONGEST_PART` characters each; joined, they are the text."""
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
    """Batches of at most `most` items and at most `most_size` (`BATCH_SIZE`) in all, or of one larger item."""
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
