"""New tokens for a tokenizer: byte-pair encoding continues on the new text."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from lingraft.errors import CorpusError
from lingraft.vocabulary.bpe import BPE, begins_character, is_whole
from lingraft.vocabulary.bpe_training import NewMerges, Pair, learn_merges
from lingraft.vocabulary.llama_cpp import fixed_pairs

logger = logging.getLogger(__name__)

VERSION = 2
"""Of how new tokens are learned: what an earlier version made is made again."""

COVERAGE = 0.9995
"""Share of characters of the new text that a SentencePiece model gets a token for (SentencePiece's default)."""

MOST_LEFT = 0.05
"""Share of the tokens of the text that may come of leaving merges out for llama.cpp's converter."""


@dataclass(frozen=True)
class Extension:
    """An extended tokenizer."""

    bpe: BPE
    first: int
    """The id of the first new token; all from here on are new."""
    pieces: list[list[int]]
    """The old tokenizer's ids for each new token."""
    unreachable: list[str]
    """New tokens that encoding gave for no text that was tried; should be empty."""


def extend(bpe: BPE, texts: Iterable[str], number: int) -> Extension:
    """Learn `number` new tokens on texts.

    The old encoding stays: a text that uses no new token keeps its ids, and everything decodes as before.
    llama.cpp's converter recognises the extended tokenizer where it recognised the old one (`vocabulary.llama_cpp`); a
    warning says so where that would cost too much.

    Raises:
        CorpusError: the text has fewer pairs that occur twice.
    """
    words = bpe.words(texts)
    letters = [] if bpe.byte_level else _new_letters(bpe, words, number)
    start = bpe.extended(letters, []) if letters else bpe
    learned = _learned(start, words, number - len(letters))
    found = len(letters) + len(learned.strings)
    if found < number:
        raise CorpusError(
            f"this text gives {found:,} new tokens, not {number:,}: no other pair of tokens occurs twice in it; "
            + (f"give more text, or ask for {found:,} at most" if found else "give more text")
        )
    extended = start.extended(learned.strings, learned.merges)
    first = len(bpe.strings)
    if missing := unreachable(extended, words, first):
        shown = ", ".join(repr(extended.surface(token)) for token in missing[:5])
        logger.warning("%d of the new tokens came out of no text that was tried: %s", len(missing), shown)
    return Extension(extended, first, bpe.cut(extended.strings[first:]), missing)


def _learned(start: BPE, words: Counter[str], number: int) -> NewMerges:
    """The new merges; those of pairs that llama.cpp's converter looks at (`fixed_pairs`) only where they are needed."""

    def learn(leave: frozenset[Pair]) -> NewMerges:
        counted = zip(start.cut(words), words.values(), strict=True)
        return learn_merges(counted, start.strings, number, start.may_be_token, leave)

    learned = learn(fixed_pairs(start))
    shown = ", ".join(repr(start.surface(string)) for string in learned.left)
    is_dear = sum(learned.left.values()) > MOST_LEFT * learned.tokens
    if is_dear or (learned.left and len(learned.strings) < number):
        logger.warning(
            "llama.cpp's converter will refuse this tokenizer: it knows one by a fixed text, and new tokens "
            "apply in it that the language cannot do without: %s",
            shown,
        )
        return learn(frozenset())
    if learned.left:
        logger.info("left out, since llama.cpp's converter would not know the tokenizer with them: %s", shown)
    return learned


def _new_letters(bpe: BPE, words: Counter[str], number: int) -> list[str]:
    """Characters that the model encodes as bytes, the most frequent first, until `COVERAGE` is reached."""
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    known = set(bpe.strings) | {letter for letter in letters if ord(letter) < 0x80}  # ASCII has a token per byte
    uncovered = (1 - COVERAGE) * letters.total()
    new = [(letter, count) for letter, count in letters.most_common() if letter not in known and count > 1]
    missing = sum(count for letter, count in letters.items() if letter not in known)
    chosen: list[str] = []
    for letter, count in new[:number]:
        if missing <= uncovered:
            break
        chosen.append(letter)
        missing -= count
    return chosen


def unreachable(bpe: BPE, words: Iterable[str], first: int) -> list[str]:
    """New tokens that encoding gives neither for their own surface nor for a word of the training text.

    A token that begins a character has the surfaces of all characters that begin so.
    """
    missing = set(range(first, len(bpe.strings)))
    surfaces = {token: _surfaces(bpe.bytes_of(bpe.strings[token])) for token in sorted(missing)}
    for before in ("", "\n", "a"):  # a tokenizer may put a space before a text, or take one away
        asked = [(token, before + text) for token in sorted(missing) for text in surfaces[token]]
        encodings = bpe.tokenizer.encode_batch([text for _, text in asked], add_special_tokens=False)
        missing -= {token for (token, _), encoding in zip(asked, encodings, strict=True) if token in encoding.ids}
    for word in words if missing else ():
        missing.difference_update(bpe.tokenizer.encode(bpe.bytes_of(word).decode(), add_special_tokens=False).ids)
    return [bpe.strings[token] for token in sorted(missing)]


def _surfaces(raw: bytes) -> list[str]:
    if is_whole(raw):
        return [raw.decode()]
    if not begins_character(raw):
        return []
    missing = next(n for n, lead in ((3, 0xF0), (2, 0xE0), (1, 0xC0)) if raw[0] >= lead) - (len(raw) - 1)
    endings = (bytes(ending) for ending in product(range(0x80, 0xC0), repeat=missing))
    return [(raw + ending).decode() for ending in endings if is_whole(raw + ending)]
