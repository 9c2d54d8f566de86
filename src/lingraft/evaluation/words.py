"""The words of texts, from which in-context abilities are asked in any language."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import category

LONGEST = 12
"""Characters of a word at most; longer ones, as of scripts without spaces, are parted."""
FEWEST_WORDS = 20
"""Different words that a language must have to be asked."""


def words_of(documents: Sequence[str]) -> list[str]:
    """The different words of documents, of letters alone, in order."""
    parts = dict.fromkeys(part for document in documents for part in document.split())
    return sorted(
        {
            part[start : start + LONGEST]
            for part in parts
            for start in range(0, len(part), LONGEST)
            if all(category(letter)[0] in "LM" for letter in part[start : start + LONGEST])
        }
    )
