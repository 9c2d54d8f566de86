"""Which training documents hold text that is measured (contamination, as the field calls it).

A document shares text with what is measured if both have

- the same run of 13 words (arXiv 2005.14165 §C), or of 26 letters where letters are words;
- a line of 50 characters and more: a whole line here and there;
- a short measured text, of five words and more, which is a whole line or paragraph of the document;
- nothing else: the document is the measured text, however short. A turn of a conversation is compared as a document
  is, from three words on: "Yes." is measured somewhere, and answers many questions.

Texts are compared in one form (`words`). The measured side is held as sorted hashes; documents stream past it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lingraft.cache import read_json, write_json
from lingraft.corpus.text_parts import batches
from lingraft.corpus.words import WORD, Hashes, Runs, Words, words_of

WINDOW = 13 * WORD
SHORTEST_PART = 5 * WORD
"""Of a measured text that is a line within a document: a shorter one is a heading that many documents have."""
SHORTEST_TURN = 3 * WORD
SHORTEST_LINE = 50

_PREFIX_BITS = 24
_SHOWN = 100
_BATCH = {"most": 2**14, "most_size": 2**18}
"""Texts, and characters, that are compared at once."""


class Measured(NamedTuple):
    """A text that is measured, and what it is: `text swh_Latn`, `held-out swh_Latn`, `question cloze swh_Latn`."""

    source: str
    text: str
    whole: bool = True
    """Whether it is also compared as a whole; an option of a question is not, for it may be a word."""


class Match(NamedTuple):
    """What a document shares with what is measured."""

    kind: str
    source: str
    passage: str
    """Of the document, in the form in which texts are compared; cut where it is long."""


_NOTHING = (np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int16))


@dataclass(frozen=True)
class _Table:
    """Hashes in ascending order, and for each the number of its source."""

    hashes: Hashes
    sources: npt.NDArray[np.int16]

    @classmethod
    def of(cls, parts: Sequence[tuple[Hashes, npt.NDArray[np.int16]]]) -> _Table:
        """Of hashes with their sources, in any order; what two sources have is the first one's."""
        hashes, sources = (np.concatenate(of) for of in zip(_NOTHING, *parts, strict=True))
        unique, first = np.unique(hashes, return_index=True)
        return cls(unique, sources[first])

    def prefixes(self) -> npt.NDArray[np.bool_]:
        """(2**24,): which first bits there are at all; most hashes of a corpus need no search."""
        there = np.zeros(2**_PREFIX_BITS, dtype=np.bool_)
        there[self.hashes >> np.uint64(64 - _PREFIX_BITS)] = True
        return there


class Index:
    """The measured side: hashes of runs of words, of lines, and of whole texts."""

    KINDS = ("document", "line", "n-gram")
    """The whole document; a whole line or paragraph of it; a run of 13 words."""

    def __init__(self, sources: Sequence[str], tables: Sequence[_Table]) -> None:
        self.sources, self._tables = sources, dict(zip(self.KINDS, tables, strict=True))
        self._prefixes = {kind: table.prefixes() for kind, table in self._tables.items()}

    @classmethod
    def of(cls, measured: Iterable[Measured]) -> Index:
        """Of texts that are measured."""
        numbers: dict[str, int] = {}
        parts: dict[str, list[tuple[Hashes, npt.NDArray[np.int16]]]] = {kind: [] for kind in cls.KINDS}
        for batch in batches((of for of in measured if of.text.strip()), lambda of: len(of.text), **_BATCH):
            words = words_of([of.text for of in batch])
            sources = np.array([numbers.setdefault(of.source, len(numbers)) for of in batch], dtype=np.int16)
            whole, lines = words.whole(), words.lines()
            whole = whole.only(np.array([of.whole for of in batch]))
            runs = [
                ("document", whole),
                ("line", whole.only(words.weights(whole) >= SHORTEST_PART)),
                ("line", lines.only(words.lengths(lines) >= SHORTEST_LINE)),
                ("n-gram", words.windows(WINDOW)),
            ]
            for kind, run in runs:
                parts[kind].append((run.hashes, sources[run.text]))
        return cls(list(numbers), [_Table.of(parts[kind]) for kind in cls.KINDS])

    def save(self, folder: Path) -> None:
        """Write it where `load` finds it."""
        write_json(folder / "measured.json", self.sources)
        for kind, table in self._tables.items():
            np.save(folder / f"measured-{kind}.npy", table.hashes)
            np.save(folder / f"measured-{kind}-sources.npy", table.sources)

    @classmethod
    def load(cls, folder: Path) -> Index:
        """What `save` wrote."""
        names = [folder / f"measured-{kind}" for kind in cls.KINDS]
        tables = [_Table(np.load(f"{name}.npy"), np.load(f"{name}-sources.npy")) for name in names]
        return cls(read_json(folder / "measured.json"), tables)

    def matches(self, documents: Iterable[Sequence[str]], shortest: int = 0) -> Iterator[Match | None]:
        """For each document, given as its texts (one, or those of a pair or a conversation), what it shares.

        `shortest`: of a lower weight, a text that is measured as a whole does not count.
        """
        for batch in batches(documents, lambda texts: sum(map(len, texts)), **_BATCH):
            texts = [text for of in batch for text in of]
            owner = np.repeat(np.arange(len(batch)), [len(of) for of in batch])
            found: list[Match | None] = [None] * len(batch)
            for text, match in self._found(words_of(texts), shortest).items():
                found[owner[text]] = found[owner[text]] or match
            yield from found

    def _found(self, words: Words, shortest: int) -> dict[int, Match]:
        """The first match of each text, by its number; the kind that says most comes first."""
        whole = words.whole()
        whole = whole.only(words.weights(whole) >= shortest)
        sought = [("document", whole), ("line", words.paragraphs()), ("line", words.lines())]
        found: dict[int, Match] = {}
        for kind, run in [*sought, ("n-gram", words.windows(WINDOW))]:
            for number, source in self._look_up(kind, run):
                if (text := int(run.text[number])) not in found:
                    found[text] = Match(kind, self.sources[source], _shortened(words.shown(run, number)))
        return found

    def _look_up(self, kind: str, run: Runs) -> list[tuple[int, int]]:
        """Numbers of the runs that are measured, with the source of each."""
        table = self._tables[kind]
        maybe = np.flatnonzero(self._prefixes[kind][run.hashes >> np.uint64(64 - _PREFIX_BITS)])
        place = np.searchsorted(table.hashes, run.hashes[maybe])
        place[place == len(table.hashes)] = 0
        same = table.hashes[place] == run.hashes[maybe] if len(table.hashes) else np.zeros(0, dtype=np.bool_)
        return list(zip(maybe[same].tolist(), table.sources[place[same]].tolist(), strict=True))


def _shortened(passage: str) -> str:
    return passage if len(passage) <= _SHOWN else f"{passage[:_SHOWN]}…"
