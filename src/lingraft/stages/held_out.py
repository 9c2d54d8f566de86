"""Stage of what is held out: what is measured, what decides, and what may not train because of it."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lingraft.artefacts import files_fingerprint, fingerprint, stage_fingerprint, write_json
from lingraft.corpus.cut import are_few_and_long, cut_one
from lingraft.corpus.formats import PLAIN_TEXT, find_files, format_of
from lingraft.corpus.mix import drawn_order, hold_out, most_held_out
from lingraft.corpus.overlap import Index, Measured
from lingraft.corpus.read import read_texts, write_texts
from lingraft.corpus.tokenize import column, open_table, text_digests
from lingraft.errors import CorpusError
from lingraft.evaluation.questions import Tasks
from lingraft.recipe import Recipe
from lingraft.stages import Tables, one_after_another

logger = logging.getLogger(__name__)


class HeldOut(NamedTuple):
    """What is held out of the corpora of one language."""

    digests: list[int]
    """Of whole documents."""
    cut: dict[int, int]
    """Of documents whose end alone is: digest -> the characters that train."""
    texts: list[str]


def hold_out_text(recipe: Recipe, tables: Tables, measured: Path, tasks: Tasks, work: Path) -> Path:
    """`heldout-<language>.jsonl`, what is measured; `held-out.json`, what was drawn; an index of all that is measured.

    Of a learned language, documents of its corpora in all stages are held out. Where the recipe decides something
    on text, the documents that decide are no longer among those: `choice-<language>.jsonl`.
    """
    inputs = {
        "corpora": {
            code: [stage_fingerprint(path) for path in tables_of(code, recipe, tables)]
            for code in recipe.languages.learn
        },
        "measured": stage_fingerprint(measured),
        "tasks": {
            task: {code: fingerprint([of.model_dump() for of in questions]) for code, questions in by_language.items()}
            for task, by_language in tasks.items()
        },
        "languages": recipe.languages.model_dump(),
        "validation": recipe.validation.model_dump(),
        "deciding": recipe.deciding,
        "seed": recipe.seed,
    }
    return one_after_another(
        work / "heldout", inputs, lambda folder: _hold_out(recipe, tables, measured, tasks, folder)
    )


def heldout_fingerprint(heldout: Path) -> str:
    """Stands for the texts that are held out or measured, whatever they were chosen from."""
    patterns = ("*.jsonl", "held-out.json", "measured*")
    return files_fingerprint(sorted(path for pattern in patterns for path in heldout.glob(pattern)))


def tables_of(language: str, recipe: Recipe, tables: Tables) -> list[Path]:
    """The tables of text in one language alone, of all stages; what two stages train on is there once."""
    found = {
        stage_fingerprint(path): path
        for name, stage in recipe.expanded.items()
        for entry, path in zip(stage.corpus, tables[name], strict=True)
        if entry.language == language
    }
    return list(found.values())


def _hold_out(recipe: Recipe, tables: Tables, measured: Path, tasks: Tasks, folder: Path) -> None:
    evaluated = {code: read_texts(measured / f"{code}.jsonl") for code in recipe.evaluation.text}
    heldout = {}
    for language in recipe.languages.learn:
        own = tables_of(language, recipe, tables)
        heldout[language] = _of_language(recipe, language, own) if own else HeldOut([], {}, [])
    texts = {**{code: of.texts for code, of in heldout.items()}, **evaluated}
    for language in recipe.languages.roles:
        of_language = texts.get(language, [])
        choice, rest = _parted(of_language, recipe, language) if language in recipe.deciding else ([], of_language)
        write_texts(folder / f"heldout-{language}.jsonl", rest)
        write_texts(folder / f"choice-{language}.jsonl", choice)
    drawn = {
        code: {"digests": of.digests, "cut": of.cut, "measured": code not in evaluated} for code, of in heldout.items()
    }
    write_json(folder / "held-out.json", drawn)
    Index.of(_measured(evaluated, texts, tasks)).save(folder)


def _measured(
    evaluated: Mapping[str, Sequence[str]], texts: Mapping[str, Sequence[str]], tasks: Tasks
) -> Iterator[Measured]:
    """All that models are measured on or chosen by, named after where the recipe has it."""
    for code, documents in texts.items():
        source = f"{'evaluation.text' if code in evaluated else 'held-out'} {code}"
        yield from (Measured(source, text) for text in documents)
    for task, by_language in tasks.items():
        for code, questions in by_language.items():
            source = f"evaluation.tasks.{task} {code}"
            for question in questions:
                yield Measured(source, question.context)
                for number, choice in enumerate(question.choices):
                    yield Measured(source, question.context + choice, whole=number == question.answer)
                    yield Measured(source, choice, whole=False)


def _of_language(recipe: Recipe, language: str, paths: Sequence[Path]) -> HeldOut:
    """The held-out documents of one language, each different text once; of few and long ones, the end of one."""
    validation, tables = recipe.validation, [open_table(path / "documents.arrow") for path in paths]
    own = [column(table, "digest") for table in tables]
    sizes = [column(table, "num_tokens") for table in tables]
    first = [~np.isin(of, np.concatenate([of[:0], *own[:i]])) for i, of in enumerate(own)]  # seen in no table before
    each, of_each = (
        np.concatenate([of[new] for of, new in zip(all_of, first, strict=True)]) for all_of in (own, sizes)
    )

    def texts_of(digests: Sequence[int] | np.ndarray[Any, Any]) -> Iterator[str]:
        for table, of in zip(tables, own, strict=True):
            yield from table.select(np.flatnonzero(np.isin(of, digests)))["text"]

    order, tokens = drawn_order(each, of_each, recipe.seed)
    limit = most_held_out(tokens, validation.share, validation.max_tokens)
    if not are_few_and_long(tokens, limit):
        held = hold_out(each, of_each, validation.share, validation.max_tokens, recipe.seed)
        return HeldOut(held.tolist(), {}, list(dict.fromkeys(texts_of(held))))
    if language in recipe.evaluation.text:  # nothing of the corpus is measured
        return HeldOut([], {}, [])
    documents = zip(order.tolist(), (next(texts_of([digest])) for digest in order), tokens.tolist(), strict=True)
    total = int(tokens.sum())

    def setting(least: float) -> str:
        if limit < validation.share * total:
            return f"set validation.max_tokens to {least:,.0f} or more"
        return f"set validation.share to {_rounded_up(least / total)} or more"

    try:
        cut = cut_one(documents, limit, total, setting)
    except CorpusError as error:
        advice = split_advice(recipe, language)
        raise CorpusError(
            f"{language}: {error}; or give text to measure it on, evaluation.text.{language}{advice}"
        ) from None
    logger.info(
        "%s: %d long documents; the last %d paragraphs of one are held out, %.1f %% of the text",
        *(language, len(order), len(cut.paragraphs), 100 * sum(map(len, cut.paragraphs)) / _length(texts_of(order))),
    )
    return HeldOut([], {cut.digest: cut.at}, cut.paragraphs)


def split_advice(recipe: Recipe, language: str) -> str:
    """How plain text of a language was cut into documents, to say where there are too few; "" where none is plain."""
    for entry in (entry for stage in recipe.expanded.values() for entry in stage.corpus if entry.language == language):
        for path in find_files(*entry.files or []):
            if format_of(path) == PLAIN_TEXT and entry.split in (None, "paragraphs"):
                return f"; {path} is cut into documents at blank lines: 'split: lines' takes each line for a document"
    return ""


def _rounded_up(share: float) -> float:
    return math.ceil(1000 * share) / 1000


def _length(texts: Iterator[str]) -> int:
    return sum(map(len, texts))


def _parted(texts: Sequence[str], recipe: Recipe, language: str) -> tuple[list[str], list[str]]:
    """Documents that decide, and documents that are measured; texts that are one when compared stay together."""
    assert recipe.validation.choice is not None, "the recipe is not resolved"
    marks = text_digests(texts)
    sizes = np.array([len(text.encode()) for text in texts], dtype=np.int64)
    order, bytes_ = drawn_order(marks, sizes, recipe.seed)
    limit = most_held_out(bytes_, recipe.validation.choice, sys.maxsize)
    try:
        if not are_few_and_long(bytes_, limit):
            chosen = hold_out(marks, sizes, recipe.validation.choice, sys.maxsize, recipe.seed)
            decides = np.isin(marks, chosen)
            choice, rest = list(compress(texts, decides)), list(compress(texts, ~decides))
        else:
            text_of = dict(zip(reversed(marks.tolist()), reversed(texts), strict=True))
            documents = ((digest, text_of[digest], size) for digest, size in zip(order, bytes_.tolist(), strict=True))
            total = int(bytes_.sum())
            cut = cut_one(
                documents, limit, total, lambda least: f"set validation.choice to {_rounded_up(least / total)} or more"
            )
            choice = cut.paragraphs
            rest = [text_of[m][: cut.at].rstrip() if m == cut.digest else t for m, t in zip(marks, texts, strict=True)]
    except CorpusError as error:
        raise CorpusError(f"{language}: something is to be decided on a part of the text to measure: {error}") from None
    logger.info("%s: %d documents decide, %d are measured", language, len(choice), len(rest))
    return choice, rest
