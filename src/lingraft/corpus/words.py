"""Hash the words of texts in a normal form, in which texts are compared.

The normal form is that of Unicode's compatibility caseless match (The Unicode Standard, D146) without invisible
characters: NFD and NFC, wide and narrow letters, upper and lower case, a soft hyphen or a joiner inside a word make no
difference. Words are runs of letters, marks and digits; white space and punctuation separate them.

Chinese, Japanese, Thai, Khmer and others are written without spaces. Each letter of such a script, with its marks, is
a word of its own here, and counts half: 13 words are 26 of those letters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lingraft.corpus.indices import Indices

Hashes = npt.NDArray[np.uint64]

WORD, LETTER = 2, 1
"""The weight of a word, and of a letter that is a word by itself."""

_INVISIBLE = (
    *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164)),
    *((0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0000, 0xE0FFF)),
)
"""Default-ignorable code points (UAX 44) that are not of the category Cf."""
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    *((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    *((0x1950, 0x19DF), (0x1A20, 0x1AAF), (0xAA80, 0xAADF)),  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    *((0x1B00, 0x1B7F), (0xA980, 0xA9DF)),  # Balinese, Javanese
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3400, 0x4DBF)),  # Han
    *((0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
    *((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x1AFF0, 0x1B16F)),  # Kana
    *((0x3100, 0x312F), (0x31A0, 0x31BF), (0xA000, 0xA4CF)),  # Bopomofo, Yi
    *((0x17000, 0x18DFF), (0x1B170, 0x1B2FF)),  # Tangut, Khitan, Nushu
)
_ASSIGNED = ((0x0000, 0x3FFFF), (0xE0000, 0xE0FFF))
"""Ranges with assigned characters, without private use; looking up all code points would take a second."""
_SEPARATOR, _MARK, _SPACED, _UNSPACED, _IGNORED = range(5)
_CODE_POINTS = 0x110000
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 2**64)


def normal_form(text: str) -> str:
    """The text in normal form: decomposed, caseless, without invisible characters."""
    return _folded(text if text.isascii() else text.translate(_invisible()))


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())


class Runs(NamedTuple):
    """Runs of consecutive words, in several texts; every field has the shape (runs,)."""

    text: Indices
    """The number of the text that holds the run."""
    start: Indices
    end: Indices
    """The run is words `start` to `end` of the batch."""
    hashes: Hashes

    def only(self, those: npt.NDArray[np.bool_]) -> Runs:
        return Runs(self.text[those], self.start[those], self.end[those], self.hashes[those])


@dataclass(frozen=True)
class Words:
    """The words of a batch of texts, text after text."""

    texts: Sequence[str]
    """In normal form."""
    offsets: Indices
    """(texts + 1,), the first character of each text in the batch."""
    first: Indices
    """(texts + 1,), the first word of each text."""
    start: Indices
    end: Indices
    """(words,), each word is characters `start` to `end` of the batch."""
    weight: Indices
    """(words,), `WORD` or `LETTER`."""
    line: Indices
    """(words,), the number of line breaks before each word in the batch."""
    sums: Hashes
    """(words + 1,), cumulative sums of hash_i * base**i modulo 2**64."""

    def windows(self, weight: int) -> Runs:
        """For each word, the shortest run that begins there, lies in one text, and has at least this weight."""
        before = np.concatenate([[0], np.cumsum(self.weight)])
        end = np.searchsorted(before, before[:-1] + weight)
        text = self._text_of(np.arange(len(self.start)))
        whole = np.flatnonzero(end <= self.first[text + 1])
        return self._run(text[whole], whole, end[whole])

    def whole(self) -> Runs:
        """One run a text, of all its words. A text without words is hashed by its other characters."""
        run = self._run(np.arange(len(self.texts)), self.first[:-1], self.first[1:])
        for i in np.flatnonzero(self.first[:-1] == self.first[1:]).tolist():
            signs = "".join(self.texts[i].split()).encode()
            run.hashes[i] = int.from_bytes(blake2b(signs, digest_size=8).digest(), "big")
        return run

    def lines(self) -> Runs:
        """One run a line that has a word."""
        return self._parted(0)

    def paragraphs(self) -> Runs:
        """One run a paragraph: lines without a blank line between them."""
        return self._parted(1)

    def weights(self, run: Runs) -> Indices:
        before = np.concatenate([[0], np.cumsum(self.weight)])
        return np.asarray(before[run.end] - before[run.start])

    def lengths(self, run: Runs) -> Indices:
        """(runs,), characters of each run, with one between two words."""
        before = np.concatenate([[0], np.cumsum(self.end - self.start + (self.weight == WORD))])
        return np.asarray(before[run.end] - before[run.start] - 1)

    def shown(self, run: Runs, number: int) -> str:
        """The words of one run as text, on one line."""
        text, first, last = int(run.text[number]), int(run.start[number]), int(run.end[number]) - 1
        begin = int(self.offsets[text])
        inside = slice(int(self.start[first]) - begin, int(self.end[last]) - begin) if first <= last else slice(None)
        return unicodedata.normalize("NFC", " ".join(self.texts[text][inside].split()))

    def _parted(self, breaks: int) -> Runs:
        """The longest runs within a text that have at most `breaks` line breaks between two words."""
        text = self._text_of(np.arange(len(self.start)))
        apart = (np.diff(self.line) > breaks) | (np.diff(text) > 0)
        start = np.concatenate([np.zeros(min(len(text), 1), dtype=np.int64), np.flatnonzero(apart) + 1])
        return self._run(text[start], start, np.append(start[1:], len(text)) if len(start) else start)

    def _text_of(self, words: Indices) -> Indices:
        return np.searchsorted(self.first, words, side="right") - 1

    def _run(self, text: Indices, start: Indices, end: Indices) -> Runs:
        return Runs(text, start, end, _hashes(self.sums, start, end))


def words_of(texts: Sequence[str]) -> Words:
    """The words of texts."""
    forms = [_folded(text) for text in texts]
    codes, kinds = _codes(forms)
    if (kinds == _IGNORED).any():  # seldom, and to look for it in Python would take longer than all else
        forms = [normal_form(text) for text in texts]
        codes, kinds = _codes(forms)
    inside, letter = kinds != _SEPARATOR, kinds == _UNSPACED
    before = np.concatenate([[False], inside[:-1]])
    starts = inside & (~before | letter)
    if letter.any():  # a word of another script that follows such a letter, or its marks, begins there
        base = np.maximum.accumulate(np.where(kinds == _MARK, 0, np.arange(len(kinds))))
        starts |= (kinds == _SPACED) & np.concatenate([[False], letter[base][:-1]])
    ends = inside & np.concatenate([starts[1:] | ~inside[1:], [True]]) if len(inside) else inside
    start, end = np.flatnonzero(starts), np.flatnonzero(ends) + 1
    offsets = np.concatenate([[0], np.cumsum([len(form) + 1 for form in forms])]).astype(np.int64)
    hashes = _hashes(_sums(_values()[codes]), start, end)
    return Words(
        texts=forms,
        offsets=offsets,
        first=np.searchsorted(start, offsets),
        start=start,
        end=end,
        weight=np.where(letter[start], LETTER, WORD),
        line=np.cumsum(codes == ord("\n"))[start],
        sums=_sums(hashes),
    )


def _codes(forms: Sequence[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    """(characters,): the code points of the texts, with a line break after each text, and their kinds."""
    codes = np.frombuffer("\n".join([*forms, "", ""]).encode("utf-32-le"), dtype=np.uint32)
    return codes, _kinds()[codes]


def _sums(values: Hashes) -> Hashes:
    """(n + 1,) sums of value_i * base**i modulo 2**64, of which `_hashes` makes the hash of any run."""
    powers = _powers(_BASE, len(values))
    return np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(values * powers, dtype=np.uint64)])


def _hashes(sums: Hashes, start: Indices, end: Indices) -> Hashes:
    """(runs,) hashes of words `start` to `end`; equal runs have equal hashes at any place (Karp and Rabin 1987)."""
    return _mixed((sums[end] - sums[start]) * _powers(_INVERSE, len(sums))[start])


def _mixed(values: Hashes) -> Hashes:
    """Each bit of the result depends on all bits of a value (splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_POWERS: dict[int, Hashes] = {}


def _powers(base: int, count: int) -> Hashes:
    """(count,), base**i modulo 2**64; cached, and extended when more are needed."""
    if base not in _POWERS or len(_POWERS[base]) < count:
        steps = np.full(max(count, 2**16), base, dtype=np.uint64)
        steps[0] = 1
        _POWERS[base] = np.cumprod(steps, dtype=np.uint64)
    return _POWERS[base][:count]


@cache
def _values() -> Hashes:
    return _mixed(np.arange(1, _CODE_POINTS + 1, dtype=np.uint64))


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """(code points,): the kind of each."""
    kind_of = {"L": _SPACED, "N": _SPACED, "M": _MARK, "C": _SPACED}  # C here: unassigned, and private use
    kind_of |= {"Cc": _SEPARATOR, "Cf": _IGNORED}
    kinds = np.full(_CODE_POINTS, kind_of["C"], dtype=np.uint8)
    for first, last in _ASSIGNED:
        categories = (unicodedata.category(chr(code)) for code in range(first, last + 1))
        kinds[first : last + 1] = [kind_of.get(name, kind_of.get(name[0], _SEPARATOR)) for name in categories]
    for first, last in _WITHOUT_SPACES:
        kinds[first : last + 1][kinds[first : last + 1] == _SPACED] = _UNSPACED
    for first, last in _INVISIBLE:
        kinds[first : last + 1] = _IGNORED
    return kinds


@cache
def _invisible() -> dict[int, None]:
    return dict.fromkeys(np.flatnonzero(_kinds() == _IGNORED).tolist())
