"""Text that was left out of a corpus, counted by reason."""

from __future__ import annotations

from collections import Counter

from lingraft.errors import CorpusError


class DroppedText:
    """Counts what was left out of a corpus, by reason, with the place of the first of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first_place: dict[str, str] = {}
        self.unused: Counter[str] = Counter()
        """Fields of records that were read and whose values are not used, by name."""

    def add(self, reason: str, place: str, count: int = 1) -> None:
        self.counts[reason] += count
        self.first_place.setdefault(reason, place)

    def include(self, other: DroppedText) -> None:
        self.counts.update(other.counts)
        self.first_place = {**other.first_place, **self.first_place}
        self.unused.update(other.unused)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        return "; ".join(f"{n} {reason} (first: {self.first_place[reason]})" for reason, n in self.counts.items())


class NothingDropped(DroppedText):
    """For files whose every record is needed: the first that cannot be used raises an error."""

    def add(self, reason: str, place: str, count: int = 1) -> None:
        raise CorpusError(f"{place}: {reason}; here every record is needed: correct the file")
