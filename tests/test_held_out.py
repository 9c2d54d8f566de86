"""How much of a corpus of few and long documents is held out, and that the rest of it trains."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from conftest import RETAINED
from lingraft.cache import read_json
from lingraft.corpus.read import read_texts, write_texts
from lingraft.corpus.tokenize import open_table
from lingraft.errors import CorpusError
from lingraft.pipeline import text
from lingraft.pipeline.decontaminate import Trainable
from lingraft.pipeline.documents import Documents
from lingraft.pipeline.values import Model
from lingraft.recipe import Recipe, load_recipe
from lingraft.recipe.schema import ALONE

WORDS = ["watu", "nyumba", "maji", "moto", "kitabu", "shule", "mtoto", "mama", "baba", "jua", "mwezi", "samaki"]


def book(seed: int, paragraphs: int = 60, between: str = "\n\n") -> str:
    """Paragraphs of fourteen words, each with a number of its own in every word."""
    return between.join(" ".join(f"{word}{seed}x{i}" for word in [*WORDS, "na", "ya"]) for i in range(paragraphs))


@pytest.fixture
def prepare(recipe: dict[str, Any], base: Path, tmp_path: Path):
    """A function that goes as far as text is packed, with a corpus of these documents."""

    def prepare(texts: list[str], **settings: Any) -> tuple[Recipe, tuple[Documents, Trainable], Path]:
        write_texts(tmp_path / "books.jsonl", texts)
        recipe["corpus"] = [{"language": "swh_Latn", "files": str(tmp_path / "books.jsonl")}]
        recipe["validation"] = {"share": 0.05, "blocks": 4}
        resolved, work = load_recipe(recipe | settings), tmp_path / "work"
        read = text.read_text(resolved, Model(base), work)
        text.prepare_training(resolved, ALONE, read, Model(base), work)
        return resolved, (read.corpora[ALONE][0], read.trainable[ALONE][0]), read.split.folder

    return prepare


@pytest.mark.parametrize("between", ["\n\n", "\n"], ids=["paragraphs", "lines"])
@pytest.mark.parametrize("books", [1, 2])
def test_of_few_long_documents_about_the_share_is_held_out_and_all_else_trains(prepare, base, books, between) -> None:
    texts = [book(i, between=between) for i in range(books)]
    _, (documents, trainable), split = prepare(texts)
    held = read_texts(split / "held-out-swh_Latn.jsonl")
    assert 0.03 < sum(map(len, held)) / sum(map(len, texts)) <= 0.05
    assert len(held) > 1
    tokens, text_of = trainable.tokens, trainable.text_of(documents)
    assert np.all(tokens > 0)
    paragraphs = [part for row in range(books) for part in text_of(row).split(between) if part]
    assert sorted(paragraphs + held) == sorted(part for text in texts for part in text.split(between))
    assert trainable.overlap["left_out"] == 0
    mixed = read_json(split.parent / "blocks/mix.json")
    assert mixed["tokens"] == tokens.sum()
    tokenizer = AutoTokenizer.from_pretrained(base)
    blocks = open_table(split.parent / "blocks/training.arrow")
    trained = tokenizer.decode([i for block in blocks["input_ids"] for i in block])
    assert all(part.split()[0] not in trained for part in held)
    assert all(part in trained for part in paragraphs)


def test_a_copy_of_held_out_paragraphs_elsewhere_does_not_train(prepare) -> None:
    texts = [book(0), book(1)]
    tails = [text[-1500:].upper() for text in texts]
    _, (_, trainable), _ = prepare([*texts, *tails])
    overlap = trainable.overlap
    assert overlap["left_out"] == 1
    assert list(overlap["sources"]) == ["held-out swh_Latn"]


def test_documents_that_cannot_be_parted_are_an_error_that_says_what_to_do(prepare) -> None:
    with pytest.raises(CorpusError, match=r"swh_Latn: 5 % .*set validation.share to 0\.\d+ or more; or give text to m"):
        prepare([book(0, between=" "), book(1, between=" ")])


def test_where_a_language_has_text_of_its_own_nothing_of_long_documents_is_held_out(prepare, recipe, texts) -> None:
    recipe["evaluation"]["text"]["swh_Latn"] = str(texts["spa_Latn"])
    _, (_, trainable), split = prepare([book(0, between=" "), book(1, between=" ")])
    assert np.all(trainable.tokens > 0)
    assert len(read_texts(split / "held-out-swh_Latn.jsonl")) == RETAINED


def test_a_passage_that_many_documents_have_is_warned_of(prepare, texts, caplog) -> None:
    licence = "this text may be copied by all who keep this line with it and say where it came from"
    documents = [json.loads(line)["text"] + f"\n{licence}" for line in texts["swh_Latn"].read_text().splitlines()]
    lines = [json.loads(line)["text"] for line in texts["swh_Latn"].read_text().splitlines()]
    write_texts(texts["eng_Latn"], [licence])
    with caplog.at_level(logging.WARNING, logger="lingraft"):
        prepare([*documents[:20], *(line.replace("a", "e") for line in lines)])
    assert any("% of the documents share a passage" in record.getMessage() for record in caplog.records)
