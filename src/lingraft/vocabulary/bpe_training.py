"""Byte-pair encoding, continued: the merges that come next on new text, after those that a tokenizer has.

Merges apply in order. A text is first cut by the old ones, to the end, for no old merge knows a new token; then by the
new ones. So the pairs to count are those of the old encoding, and a text in which no new merge applies keeps its ids
(Sennrich et al. 2016, arXiv 1508.07909, algorithm 1; continued: Purason et al., arXiv 2512.03989).

Two tokens that stand side by side in a finished cut are also the cut of their own string, for no merge crossed its
borders, and those within it were the same. So a new token comes out of its own string, and no two pairs make the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise

Token = int
Word = list[Token]
Pair = tuple[Token, Token]

LONGEST = 256
"""Tokens of a word that are counted together; where nobody writes spaces, a paragraph is one word."""


@dataclass(frozen=True)
class NewMerges:
    """What was learned; both lists in order of the ids of the new tokens."""

    merges: list[Pair]
    strings: list[str]


def learn_merges(
    words: Iterable[tuple[Word, int]],
    strings: Sequence[str],
    number: int,
    allowed: Callable[[str], bool],
    at_least: int = 2,
) -> NewMerges:
    """The `number` tokens that come next, the most frequent pair first; of equal ones that of the oldest tokens.

    `words` are the old tokens of each word, with how often it occurs, `strings` those of the old tokens by id; new
    ids follow. A pair is left alone where its string is a token already, which the old merges make of other parts, or
    is not `allowed`. There are fewer than `number` where no other pair occurs `at_least` times.
    """
    learner = _Learner(words)
    known, all_strings, merges = set(strings), list(strings), list[Pair]()
    while len(merges) < number and (pair := learner.most_frequent(at_least)):
        string = all_strings[pair[0]] + all_strings[pair[1]]
        if string not in known and allowed(string):
            learner.merge(pair, len(all_strings))
            merges.append(pair)
            all_strings.append(string)
            known.add(string)
    return NewMerges(merges, all_strings[len(strings) :])


class _Learner:
    """Words, the pairs in them, and where they stand."""

    def __init__(self, words: Iterable[tuple[Word, int]]) -> None:
        self.words: list[Word] = []
        self.counts: list[int] = []
        self.seen: defaultdict[Pair, int] = defaultdict(int)
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)
        for word, count in words:
            for start in range(0, len(word), LONGEST):
                self._add(word[start : start + LONGEST], count)
        self.queue = [(-count, pair) for pair, count in self.seen.items()]
        heapify(self.queue)

    def _add(self, word: Word, count: int) -> None:
        for pair in pairwise(word):
            self.seen[pair] += count
            self.places[pair].add(len(self.words))
        self.words.append(word)
        self.counts.append(count)

    def most_frequent(self, at_least: int) -> Pair | None:
        """The next pair, which is not given again; `None` where none occurs so often."""
        while self.queue:
            count, pair = heappop(self.queue)
            now = self.seen[pair]
            if now >= at_least and now == -count:
                return pair
            if now >= at_least:  # it became rarer since; a pair never becomes more frequent
                heappush(self.queue, (-now, pair))
        return None

    def merge(self, pair: Pair, token: Token) -> None:
        """Put a new token in the place of a pair, everywhere."""
        appeared: set[Pair] = set()
        for place in self.places.pop(pair):
            word, count = self.words[place], self.counts[place]
            merged = _merged(word, pair, token)
            if len(merged) == len(word):  # merged away since it was noted
                continue
            for before in pairwise(word):
                self.seen[before] -= count
            for after in pairwise(merged):
                self.seen[after] += count
                if token in after:
                    appeared.add(after)
                    self.places[after].add(place)
            self.words[place] = merged
        del self.seen[pair]
        for new in appeared:
            heappush(self.queue, (-self.seen[new], new))


def _merged(word: Word, pair: Pair, token: Token) -> Word:
    first, second = pair
    merged: Word = []
    i, last = 0, len(word) - 1
    while i <= last:
        if i < last and word[i] == first and word[i + 1] == second:
            merged.append(token)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged
