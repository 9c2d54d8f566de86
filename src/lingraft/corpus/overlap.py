"""Find training documents that share text with measured text (contamination).

A document shares text with a measured text if

- both have the same run of 13 words (arXiv 2005.14165 §C), or of 26 letters where letters are words;
- both have the same whole line, of 50 characters or more;
- the measured text, of five words or more, is a whole line or paragraph of the document;
- both are the same text, of any length. A turn of a conversation is compared as a document from three words on, since
  short answers such as "Yes." occur in many conversations.

Texts are compared in the normal form of `words`. Hashes of the measured texts are held sorted; documents are streamed.
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
"""The least weight of a measured text that is compared with lines; many documents share shorter headings."""
SHORTEST_TURN = 3 * WORD
SHORTEST_LINE = 50

_PREFIX_BITS = 24
_SHOWN = 100
_BATCH = {"most": 2**14, "most_size": 2**18}
"""The largest number of texts, and of characters, that are compared at once."""


class Measured(NamedTuple):
    """A measured text and its source: `text swh_Latn`, `held-out swh_Latn`, `question cloze swh_Latn`."""

    source: str
    text: str
    whole: bool = True
    """Whether it is also compared as a whole; an option of a question is not, since it may be one word."""


class Match(NamedTuple):
    """A passage that a document shares with a measured text."""

    kind: str
    source: str
    passage: str
    """The passage of the document in normal form, shortened."""


_NOTHING = (np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int16))


@dataclass(frozen=True)
class _Table:
    """(hashes,) in ascending order, and (hashes,) the number of the source of each."""

    hashes: Hashes
    sources: npt.NDArray[np.int16]

    @classmethod
    def of(cls, parts: Sequence[tuple[Hashes, npt.NDArray[np.int16]]]) -> _Table:
        """A table of hashes in any order; a hash that two sources have belongs to the first."""
        hashes, sources = (np.concatenate(arrays) for arrays in zip(_NOTHING, *parts, strict=True))
        unique, first = np.unique(hashes, return_index=True)
        return cls(unique, sources[first])

    def prefixes(self) -> npt.NDArray[np.bool_]:
        """(2**24,): whether some hash begins with these bits; most hashes of a corpus need no search."""
        present = np.zeros(2**_PREFIX_BITS, dtype=np.bool_)
        present[self.hashes >> np.uint64(64 - _PREFIX_BITS)] = True
        return present


class Index:
    """Hashes of measured texts: of runs of words, of lines, and of whole texts."""

    KINDS = ("document", "line", "n-gram")
    """What is shared: the whole document, a whole line or paragraph of it, or a run of 13 words."""

    def __init__(self, sources: Sequence[str], tables: Sequence[_Table]) -> None:
        self.sources, self._tables = sources, dict(zip(self.KINDS, tables, strict=True))
        self._prefixes = {kind: table.prefixes() for kind, table in self._tables.items()}

    @classmethod
    def of(cls, measured: Iterable[Measured]) -> Index:
        """The index of these texts."""
        numbers: dict[str, int] = {}
        parts: dict[str, list[tuple[Hashes, npt.NDArray[np.int16]]]] = {kind: [] for kind in cls.KINDS}
        for batch in batches((one for one in measured if one.text.strip()), lambda one: len(one.text), **_BATCH):
            words = words_of([one.text for one in batch])
            sources = np.array([numbers.setdefault(one.source, len(numbers)) for one in batch], dtype=np.int16)
            whole, lines = words.whole(), words.lines()
            whole = whole.only(np.array([one.whole for one in batch]))
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
        """The match of each document, or None. A document is one text, or the texts of a pair or a conversation.

        `shortest`: the least weight of a text that is compared as a whole.
        """
        for batch in batches(documents, lambda texts: sum(map(len, texts)), **_BATCH):
            texts = [text for document in batch for text in document]
            owner = np.repeat(np.arange(len(batch)), [len(document) for document in batch])
            found: list[Match | None] = [None] * len(batch)
            for text, match in self._found(words_of(texts), shortest).items():
                found[owner[text]] = found[owner[text]] or match
            yield from found

    def _found(self, words: Words, shortest: int) -> dict[int, Match]:
        """The first match of each text, by the number of the text; the most specific kind is tried first."""
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
