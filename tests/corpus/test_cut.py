"""Few and long documents: the end of one is held out, at a paragraph or a line."""

from __future__ import annotations

import random

import pytest

from lingraft.corpus.cut import MOST, cut_one
from lingraft.errors import CorpusError


def document(draw: random.Random, paragraphs: int, between: str) -> str:
    return between.join("x" * draw.randint(1, 30) for _ in range(paragraphs))


def cut(texts: list[str], share: float):
    total = sum(map(len, texts))
    return cut_one(((i, text, len(text)) for i, text in enumerate(texts)), share * total, total, "set {}".format)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("between", ["\n\n", "\n", "\n \n\n"])
def test_about_the_share_is_held_out_and_the_rest_is_the_beginning(seed, between) -> None:
    draw = random.Random(seed)
    texts = [document(draw, draw.randint(80, 200), between) for _ in range(2)]
    found = cut(texts, 0.05)
    text, total = texts[found.digest], sum(map(len, texts))
    assert text[found.at :] == between.join(found.paragraphs)
    assert text[: found.at].endswith(between)
    assert 0.025 * total < len(text) - found.at <= 0.05 * total


def test_a_document_whose_paragraphs_are_long_is_cut_at_a_line() -> None:
    text = "\n".join(f"line {i}" for i in range(100)) + "\n\n" + "\n".join(f"line {i}" for i in range(100))
    found = cut([text], 0.05)
    assert found.paragraphs[-1] == "line 99"
    assert len(found.paragraphs) == 10


def test_a_document_that_cannot_be_cut_is_passed_over() -> None:
    found = cut(["x" * 500, "\n".join(["y" * 10] * 50)], 0.05)
    assert found.digest == 1
    assert set(found.paragraphs) == {"y" * 10}


@pytest.mark.parametrize("texts", [["x" * 100, "y" * 100], ["x\n" + "y" * 100], ["\n\n" + "x" * 100 + "\n\n"]])
def test_more_than_twice_the_share_is_an_error_that_says_what_to_set(texts) -> None:
    with pytest.raises(CorpusError, match=r"5 % of the text is to be held out.*paragraph or a line.*set \d+"):
        cut(texts, 0.05)


def test_up_to_twice_the_share_is_held_out_where_a_paragraph_is_long() -> None:
    found = cut(["x" * 89 + "\n" + "y" * 10], 0.1 / MOST + 0.001)
    assert found.paragraphs == ["y" * 10]
