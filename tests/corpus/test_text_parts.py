"""Long texts in parts: nothing is lost, and the tokens are those of the whole."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from lingraft.corpus import text_parts as parts
from lingraft.corpus.tokenize import encode
from vocabulary.families import ENGLISH, FAMILIES, PERSIAN, sentences

TEXTS = {
    "lines": "".join(sentences(ENGLISH, 40)),
    "one line": " ".join(sentences(PERSIAN, 40)).replace("\n", ""),
    "white space": "a  b\n\n c\t\td " * 200,
    "no place to cut": "x" * 3000,
}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(parts, "LONGEST_PART", 640)
    monkeypatch.setattr(parts, "BATCH_SIZE", 1000)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_parts_of_a_text_make_it_up_and_none_is_too_long(text) -> None:
    found = list(parts.text_parts(text))
    assert "".join(found) == text
    assert len(found) > 3
    assert all(0 < len(part) <= 640 for part in found)


@pytest.mark.parametrize("family", ["llama3", "qwen", "gpt2", "gemma"])
def test_a_long_text_has_the_tokens_that_it_has_as_a_whole(family) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=FAMILIES[family]())
    for text in (TEXTS["lines"], TEXTS["one line"]):
        whole = tokenizer(text, add_special_tokens=False).input_ids
        assert encode(tokenizer, ["a b", text, "", "c"])[1] == whole


def test_batches_hold_all_in_order_and_are_bounded_in_number_and_size() -> None:
    items = ["a" * size for size in (1, 2, 3, 999, 1, 2000, 5, 5, 5, 5)]
    found = list(parts.batches(iter(items), len, 3))
    assert [len(item) for batch in found for item in batch] == [len(item) for item in items]
    assert [[len(item) for item in batch] for batch in found] == [[1, 2, 3], [999, 1], [2000], [5, 5, 5], [5]]
