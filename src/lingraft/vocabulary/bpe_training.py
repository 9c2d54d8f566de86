"""Continue byte-pair encoding: learn the next merges on new text, after the merges of a tokenizer.

Merges apply in order. All old merges apply first, since none contains a new token; then the new merges apply. So the
pairs to count are the pairs of the old encoding, and a text in which no new merge applies keeps its ids
(Sennrich et al. 2016, arXiv 1508.07909, algorithm 1; continued: Purason et al., arXiv 2512.03989).

Two adjacent tokens of an encoding are also the encoding of their joined string: no merge crossed its borders, and the
merges within it are the same. So a new token's string encodes to that token, and no two pairs give the same token.
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
"""Longest stretch of a word to count in; in scripts without spaces a paragraph is one word."""


@dataclass(frozen=True)
class NewMerges:
    """The learned merges and their strings, in the order of the new ids."""

    merges: list[Pair]
    strings: list[str]
    left: dict[str, int]
    """Strings of pairs that were frequent enough and had to be left -> how often each occurred."""
    tokens: int
    """Tokens of the words, after all merges."""


def learn_merges(
    words: Iterable[tuple[Word, int]],
    strings: Sequence[str],
    number: int,
    allowed: Callable[[str], bool],
    leave: frozenset[Pair] = frozenset(),
    at_least: int = 2,
) -> NewMerges:
    """Learn `number` merges, the most frequent pair first; of equal pairs the one with the lowest ids.

    `words` are the old tokens of each word, with how often it occurs, `strings` the strings of the old tokens by id;
    new ids follow. A pair is skipped where its string is a token already, made by the old merges of other parts, or
    is not `allowed`, or is one to `leave`. The result is shorter than `number` where no other pair occurs `at_least`
    times.
    """
    learner = _Learner(words)
    known, all_strings, merges, left = set(strings), list(strings), list[Pair](), dict[str, int]()
    while len(merges) < number and (pair := learner.most_frequent(at_least)):
        string = all_strings[pair[0]] + all_strings[pair[1]]
        if string in known or not allowed(string):
            continue
        if pair in leave:
            left[string] = learner.seen[pair]
        else:
            learner.merge(pair, len(all_strings))
            merges.append(pair)
            all_strings.append(string)
            known.add(string)
    return NewMerges(merges, all_strings[len(strings) :], left, learner.tokens())


class _Learner:
    """Words, the counts of their pairs, and the words that contain each pair."""

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

    def tokens(self) -> int:
        return sum(len(word) * count for word, count in zip(self.words, self.counts, strict=True))

    def most_frequent(self, at_least: int) -> Pair | None:
        """Take the most frequent pair from the queue; `None` where no pair occurs `at_least` times."""
        while self.queue:
            count, pair = heappop(self.queue)
            now = self.seen[pair]
            if now >= at_least and now == -count:
                return pair
            if now >= at_least:  # it became rarer since; a pair never becomes more frequent
                heappush(self.queue, (-now, pair))
        return None

    def merge(self, pair: Pair, token: Token) -> None:
        """Replace a pair with a new token in every word."""
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
