"""Hold out the end of one document, where documents are few and long; its beginning trains."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from lingraft.corpus.indices import Indices
from lingraft.errors import CorpusError

MOST = 2.0
"""The largest allowed ratio of the size that is held out to the size that was asked for."""

_BREAKS = (re.compile(r"\n[^\S\n]*\n\s*"), re.compile(r"\n\s*"))
"""Where a document may be cut: between paragraphs; or between lines, if no paragraph is small enough."""


def are_few_and_long(sizes: Indices, limit: float) -> bool:
    """Whether no document can be held out whole within `limit`. `sizes`: (documents,), in the order of the draw."""
    return len(sizes) < 2 or bool(sizes[0] > MOST * limit)


class Cut(NamedTuple):
    """A document that is cut: the characters before `at` train, and `paragraphs` after it are held out."""

    digest: int
    at: int
    paragraphs: list[str]


def cut_one(
    documents: Iterable[tuple[int, str, int]], limit: float, total: int, setting: Callable[[float], str]
) -> Cut:
    """Cut the first document whose last paragraphs have a size of about `limit`.

    `documents`: digest, text and size of each. Sizes, `limit` and `total` have the same unit, which may be any.
    `setting` words the setting of a recipe that raises the limit to a given size.

    Raises:
        CorpusError: the last paragraph, or line, of each is more than twice the limit.
    """
    least = float(total)
    for digest, text, size in documents:
        for breaks in _BREAKS:
            starts = [found.end() for found in breaks.finditer(text) if text[: found.start()].strip()]
            starts = [start for start in starts if text[start:].strip()]
            if not starts:
                continue
            sizes = [size * (len(text) - start) / len(text) for start in starts]
            first = next((i for i, size_after in enumerate(sizes) if size_after <= limit), len(starts) - 1)
            if sizes[first] <= MOST * limit:
                paragraphs = [part for part in breaks.split(text[starts[first] :]) if part.strip()]
                return Cut(digest, starts[first], paragraphs)
            least = min(least, sizes[first])
        least = min(least, size)
    raise CorpusError(
        f"{100 * limit / total:.2g} % of the text is to be held out, and the least that can be is "
        f"{100 * least / total:.2g} %, for documents are few and are cut only where a paragraph or a line ends; give "
        f"more text, part it into more documents or paragraphs, or {setting(least / MOST)}"
    )
