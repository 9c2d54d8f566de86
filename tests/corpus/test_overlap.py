"""Which documents share text with what is measured, case by case."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lingraft.corpus.overlap import SHORTEST_TURN, Index, Measured

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
SHORT = "one two three four five"
LINE = "Donaudampfschifffahrtsgesellschaft Rindfleischetikettierung"
CHINESE = "汉字书写没有空格所以每个字都是一个词并且算作半个词这样就可以比较长的句子了"

FOUND = {
    "the text": (LONG, LONG, "document"),
    "a word": ("Yes.", "yes", "document"),
    "13 words": (LONG, "x " + " ".join(LONG.split()[1:14]) + " y", "n-gram"),
    "13 words over lines": (LONG, "x\n" + "\n".join(LONG.split()[:13]) + "\ny", "n-gram"),
    "a long line": (f"x\n{LINE}\ny", f"z\n {LINE.upper()}\nz", "line"),
    "a short text as a line": (SHORT, f"x y\n{SHORT}.\nz", "line"),
    "a short text as a paragraph": (SHORT, "x\n\none two\nthree four five\n\nz", "line"),
    "26 letters of Chinese": (CHINESE, "我" + CHINESE[4:31] + "我", "n-gram"),
    "signs": ("♥ ♥", "♥♥", "document"),
}
FREE = {
    "12 words": (LONG, "x " + " ".join(LONG.split()[:12]) + " y"),
    "a word on a line": ("Yes.", "x\nyes\ny"),
    "a short text within a line": (SHORT, f"x {SHORT} y"),
    "a short line of a longer text": (f"{SHORT}\nsix seven", f"x\n{SHORT}\ny"),
    "a long line in part": (f"x\n{LINE}\ny", f"z\n{LINE} z"),
    "20 letters of Chinese": (CHINESE, "我" + CHINESE[4:24] + "我"),
    "other signs": ("♥ ♥", "♦♦"),
    "nothing": (" ", " "),
}


def match(measured: list[Measured], *texts: str, shortest: int = 0):
    return next(Index.of(measured).matches([texts], shortest))


@pytest.mark.parametrize(("measured", "document", "kind"), FOUND.values(), ids=FOUND)
def test_a_document_that_shares_text_is_found(measured, document, kind) -> None:
    assert match([Measured("a", measured)], document).kind == kind


@pytest.mark.parametrize(("measured", "document"), FREE.values(), ids=FREE)
def test_a_document_that_shares_little_trains(measured, document) -> None:
    assert match([Measured("a", measured)], document) is None


def test_every_text_of_a_document_counts_and_no_run_goes_from_one_to_the_next() -> None:
    first, second = " ".join(LONG.split()[:7]), " ".join(LONG.split()[7:])
    assert match([Measured("a", LONG)], "x", LONG).kind == "document"
    assert match([Measured("a", LONG)], first, second) is None


def test_short_turns_and_choices_are_no_measured_texts() -> None:
    assert match([Measured("a", "Yes.")], "Is it?", "Yes.", shortest=SHORTEST_TURN) is None
    assert match([Measured("a", "fire and fish")], "say", "fire and fish", shortest=SHORTEST_TURN)
    assert match([Measured("a", "Nairobi", whole=False)], "Nairobi") is None
    assert match([Measured("a", LONG, whole=False)], LONG)


def test_a_match_names_its_source_and_shows_the_passage() -> None:
    found = match([Measured("a", "maji"), Measured("b", LONG)], f"Hapa: {LONG.upper()}")
    assert (found.kind, found.source) == ("n-gram", "b")
    assert found.passage == "one two three four five six seven eight nine ten eleven twelve thirteen"


@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_is_what_a_search_through_all_runs_finds(seed, tmp_path) -> None:
    draw = random.Random(seed)

    def texts(count: int) -> list[str]:
        return [" ".join(draw.choice("ab") for _ in range(draw.randint(13, 16))) for _ in range(count)]

    measured, documents = texts(300), texts(2000)
    index = Index.of(Measured("a", text) for text in measured)
    index.save(tmp_path)
    runs = {tuple(words[i : i + 13]) for words in map(str.split, measured) for i in range(len(words) - 12)}
    expected = [any(tuple(of[i : i + 13]) in runs for i in range(len(of) - 12)) for of in map(str.split, documents)]
    assert 0 < np.mean(expected) < 1
    for each in (index, Index.load(tmp_path)):
        assert [found is not None for found in each.matches([text] for text in documents)] == expected


def test_nothing_measured_leaves_out_nothing() -> None:
    assert match([], "maji") is None
    assert list(Index.of([]).matches([])) == []
