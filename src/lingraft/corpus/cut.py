"""Where documents are few and long: the end of one is held out, and its beginning trains."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from lingraft.corpus.indices import Indices
from lingraft.errors import CorpusError

MOST = 2.0
"""How many times the share that was asked for may be held out."""

_BREAKS = (re.compile(r"\n[^\S\n]*\n\s*"), re.compile(r"\n\s*"))
"""Between paragraphs; between lines, of a document without paragraphs that fit."""


def are_few_and_long(sizes: Indices, limit: float) -> bool:
    """Whether no document, of sizes in the order in which they are drawn, can be held out whole for such a limit."""
    return len(sizes) < 2 or bool(sizes[0] > MOST * limit)


class Cut(NamedTuple):
    """A document in two: characters before `at`, and paragraphs after it."""

    digest: int
    at: int
    paragraphs: list[str]


def cut_one(
    documents: Iterable[tuple[int, str, int]], limit: float, total: int, setting: Callable[[float], str]
) -> Cut:
    """Cut the first document that can be, so that its last paragraphs come to about `limit`.

    Documents are digest, text and size; sizes are in any unit, the limit and their total too. `setting` says what a
    user can set so that the limit is at least so much.

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
            first = next((i for i, of in enumerate(sizes) if of <= limit), len(starts) - 1)
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
