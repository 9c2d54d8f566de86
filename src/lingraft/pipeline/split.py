"""The step that splits text: measured documents, the selection split, and training."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lingraft.cache import files_fingerprint, read_json, write_json
from lingraft.corpus.cut import are_few_and_long, cut_one
from lingraft.corpus.mix import drawn_order, hold_out, most_held_out
from lingraft.corpus.overlap import Index, Measured
from lingraft.corpus.read import read_texts, write_texts
from lingraft.corpus.tokenize import column, text_digests
from lingraft.errors import CorpusError
from lingraft.pipeline.documents import Documents, MeasuredText
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import Questions
from lingraft.recipe.text import Languages, Validation

logger = logging.getLogger(__name__)

SENTENCE = 5
"""Words of a field of a question that is compared as a whole, too; shorter ones are options, labels and names."""


class Split(Artefact):
    """By language: `held-out-*.jsonl` is measured, `selection-*.jsonl` is the selection split; an index of both."""

    @property
    def fingerprint(self) -> str:
        """Changes only when held-out or measured texts change."""
        patterns = ("*.jsonl", "held-out.json", "measured*")
        return files_fingerprint(sorted(path for pattern in patterns for path in self.folder.glob(pattern)))

    def measured(self, language: str) -> list[str]:
        return read_texts(self.folder / f"held-out-{language}.jsonl")

    def selection(self, language: str) -> list[str]:
        return read_texts(self.folder / f"selection-{language}.jsonl")

    def drawn(self, language: str | None) -> dict[str, Any]:
        """What was held out of a language's corpora: `digests` of documents, `cut` ones, whether it is `measured`."""
        nothing: dict[str, Any] = {"digests": [], "cut": {}, "measured": False}
        return dict(read_json(self.folder / "held-out.json").get(language, nothing))

    @property
    def index(self) -> Index:
        return Index.load(self.folder)


class HeldOut(NamedTuple):
    """Held-out documents of one language."""

    digests: list[int]
    """Of whole documents."""
    cut: dict[int, int]
    """Of documents whose end alone is: digest -> the characters that train."""
    texts: list[str]


@step(Split)
def split_documents(
    folder: Path,
    documents: Mapping[str, Sequence[Documents]],
    measured: MeasuredText,
    evaluated: Sequence[str],
    questions: Questions,
    languages: Languages,
    validation: Validation,
    deciding: Sequence[str],
    seed: int,
) -> None:
    """Hold documents of each learned language out of its corpora, and separate the selection split from measured text.

    `documents` are those of each learned language alone, `evaluated` the languages with text of their own to measure
    on, `deciding` those that need a selection split.
    """
    given = {code: read_texts(measured.path(code)) for code in evaluated}
    held_out = {
        code: _of_language(code, tables, code in evaluated, validation, seed) if tables else HeldOut([], {}, [])
        for code, tables in documents.items()
    }
    texts = {**{code: held.texts for code, held in held_out.items()}, **given}
    for language in languages.roles:
        rest, decides = texts.get(language, []), list[str]()
        if language in deciding:
            decides, rest = _parted(rest, validation, seed, language)
        write_texts(folder / f"held-out-{language}.jsonl", rest)
        write_texts(folder / f"selection-{language}.jsonl", decides)
    drawn = {
        code: {"digests": held.digests, "cut": held.cut, "measured": code not in evaluated}
        for code, held in held_out.items()
    }
    write_json(folder / "held-out.json", drawn)
    Index.of(_measured(evaluated, texts, questions)).save(folder)


def _measured(evaluated: Sequence[str], texts: Mapping[str, Sequence[str]], questions: Questions) -> Iterator[Measured]:
    """Yield all measured and selection texts, with their place in the recipe."""
    for code, documents in texts.items():
        source = f"{'evaluation.text' if code in evaluated else 'held-out'} {code}"
        yield from (Measured(source, text) for text in documents)
    for title, task in questions.tasks.items():
        for code, of_task in task.questions.items():
            source = f"evaluation.tasks.{title} {code}"
            yield from (Measured(source, *measured) for question in of_task for measured in question.measured)
    for pairs in questions.pairs.values():
        for code, sentences in zip(pairs.languages, zip(*pairs.sentences, strict=True), strict=True):
            yield from (Measured(f"evaluation.pairs {code}", text, whole=True) for text in sentences)
    for suite in questions.suites:
        for code, of_suite in suite.texts.items():
            source = f"evaluation.{suite.name} {code}"
            yield from (Measured(source, text, whole=len(text.split()) >= SENTENCE) for text in of_suite)


def _of_language(
    language: str, documents: Sequence[Documents], is_evaluated: bool, validation: Validation, seed: int
) -> HeldOut:
    """Hold out documents of one language, each text once; of few and long documents, the end of one."""
    tables = [each.table for each in documents]
    own = [column(table, "digest") for table in tables]
    sizes = [column(table, "num_tokens") for table in tables]
    first = [  # where a digest was in no table before
        ~np.isin(digests, np.concatenate([digests[:0], *own[:i]])) for i, digests in enumerate(own)
    ]
    digests, num_tokens = (
        np.concatenate([values[new] for values, new in zip(column_of_each, first, strict=True)])
        for column_of_each in (own, sizes)
    )

    def texts_of(digests: Sequence[int] | np.ndarray[Any, Any]) -> Iterator[str]:
        for table, digests_there in zip(tables, own, strict=True):
            yield from table.select(np.flatnonzero(np.isin(digests_there, digests)))["text"]

    order, tokens = drawn_order(digests, num_tokens, seed)
    limit = most_held_out(tokens, validation.share, validation.max_tokens)
    if not are_few_and_long(tokens, limit):
        held = hold_out(digests, num_tokens, validation.share, validation.max_tokens, seed)
        return HeldOut(held.tolist(), {}, list(dict.fromkeys(texts_of(held))))
    if is_evaluated:  # nothing of the corpus is measured
        return HeldOut([], {}, [])
    in_order = zip(order.tolist(), (next(texts_of([digest])) for digest in order), tokens.tolist(), strict=True)
    total = int(tokens.sum())

    def setting(least: float) -> str:
        if limit < validation.share * total:
            return f"set validation.max_tokens to {least:,.0f} or more"
        return f"set validation.share to {_rounded_up(least / total)} or more"

    try:
        cut = cut_one(in_order, limit, total, setting)
    except CorpusError as error:
        advice = f"give text to measure it on, evaluation.text.{language}{_split_advice(documents)}"
        raise CorpusError(f"{language}: {error}; or {advice}") from None
    logger.info(
        "%s: %d long documents; the last %d paragraphs of one are held out, %.1f %% of the text",
        *(language, len(order), len(cut.paragraphs), 100 * sum(map(len, cut.paragraphs)) / _length(texts_of(order))),
    )
    return HeldOut([], {cut.digest: cut.at}, cut.paragraphs)


def _split_advice(documents: Iterable[Documents]) -> str:
    """Return advice on `split` if plain text was cut at blank lines; else an empty string."""
    for path in (path for source in documents for path in source.record["cut_at_blank_lines"]):
        return f"; {path} is cut into documents at blank lines: 'split: lines' takes each line for a document"
    return ""


def _rounded_up(share: float) -> float:
    return math.ceil(1000 * share) / 1000


def _length(texts: Iterator[str]) -> int:
    return sum(map(len, texts))


def _parted(texts: Sequence[str], validation: Validation, seed: int, language: str) -> tuple[list[str], list[str]]:
    """Split texts into the selection split and measured documents; equal texts stay together."""
    share = validation.selection_share
    assert share is not None, "the recipe is not resolved"
    marks = text_digests(texts)
    sizes = np.array([len(text.encode()) for text in texts], dtype=np.int64)
    order, bytes_ = drawn_order(marks, sizes, seed)
    limit = most_held_out(bytes_, share, sys.maxsize)
    try:
        if not are_few_and_long(bytes_, limit):
            chosen = hold_out(marks, sizes, share, sys.maxsize, seed)
            decides = np.isin(marks, chosen)
            choice, rest = list(compress(texts, decides)), list(compress(texts, ~decides))
        else:
            text_of = dict(zip(reversed(marks.tolist()), reversed(texts), strict=True))
            documents = ((digest, text_of[digest], size) for digest, size in zip(order, bytes_.tolist(), strict=True))
            total = int(bytes_.sum())
            cut = cut_one(
                documents,
                limit,
                total,
                lambda least: f"set validation.selection_share to {_rounded_up(least / total)} or more",
            )
            choice = cut.paragraphs
            rest = [text_of[m][: cut.at].rstrip() if m == cut.digest else t for m, t in zip(marks, texts, strict=True)]
    except CorpusError as error:
        raise CorpusError(f"{language}: no selection split can be taken from the text to measure: {error}") from None
    logger.info("%s: %d documents in the selection split, %d measured", language, len(choice), len(rest))
    return choice, rest
