"""Stages of text: what is measured, what is tokenized, what trains and what is held out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lingraft.artefacts import file_fingerprint, read_json, recorded_inputs, stage_fingerprint, write_json
from lingraft.checkpoints.read import read_tokenizer, tokenizer_fingerprint
from lingraft.corpus import Indices
from lingraft.corpus.hub import hub_revision, read_hub_documents
from lingraft.corpus.mix import Draw, Source, hold_out, mix
from lingraft.corpus.pack import write_blocks, write_text_blocks
from lingraft.corpus.read import DroppedText, find_files, read_documents, read_texts, write_texts
from lingraft.corpus.tokenize import column, open_table, text_digest, write_documents
from lingraft.errors import CorpusError
from lingraft.evaluation.measure import EvaluationSet
from lingraft.evaluation.questions import Tasks
from lingraft.evaluation.samples import draw_prompts
from lingraft.recipe import CorpusEntry, Recipe
from lingraft.stages import one_after_another

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

REPLAY_MARGIN = 1.1
"""Of a hub dataset that is replayed, so much more is read than its share: some documents are kept out."""


def read_measured_text(recipe: Recipe, work: Path) -> Path:
    """`<language>.jsonl` of every language with text under `evaluation.text`."""
    files = {code: find_files(*patterns) for code, patterns in recipe.evaluation.text.items()}
    inputs = {
        "files": {code: [file_fingerprint(path) for path in paths] for code, paths in files.items()},
        "text_field": recipe.evaluation.text_field,
    }

    def make(folder: Path) -> None:
        for code, paths in files.items():
            dropped = DroppedText()
            documents = list(read_documents(paths, recipe.evaluation.text_field, dropped))
            write_texts(folder / f"{code}.jsonl", documents)
            logger.info("%s: %d documents to measure on%s", code, len(documents), _left_out(dropped))

    return one_after_another(work / "measured-text", inputs, make)


def tokenize_corpora(recipe: Recipe, base: Path, work: Path) -> list[Path]:
    """One folder a corpus entry, with the table `documents.arrow` of its documents and token ids.

    Files are read whole. A hub dataset is read as far as is needed: up to its budget and what is
    held out of it, or up to its share of the entries without one, which are read first.
    """
    paths = {i: work / f"corpus-{i}" for i in range(len(recipe.corpus))}
    total = 0
    for i, entry in enumerate(recipe.corpus):
        if entry.share is None:
            limit = entry.tokens and entry.tokens + _held_out_tokens(recipe, entry.tokens)
            _tokenize(entry, base, paths[i], limit)
            total += min(read_json(paths[i] / "corpus.json")["tokens"] * entry.repeat, limit or sys.maxsize)
    shares = sum(entry.share or 0 for entry in recipe.corpus) + recipe.written_share
    for i, entry in enumerate(recipe.corpus):
        if entry.share is not None:
            limit = int(entry.share * total / (1 - shares) * REPLAY_MARGIN) + _held_out_tokens(recipe, total)
            _tokenize(entry, base, paths[i], limit)
    return list(paths.values())


def _held_out_tokens(recipe: Recipe, tokens: int) -> int:
    """About how many of so many tokens do not train, and have to be read beside them."""
    return min(int(tokens * recipe.validation.share) + 1, recipe.validation.max_tokens)


def _tokenize(entry: CorpusEntry, base: Path, path: Path, limit: int | None) -> None:
    files = find_files(*entry.files or [])
    limit = limit if entry.hub else None
    inputs = {
        "files": [file_fingerprint(file) for file in files],
        "hub": [entry.hub, entry.subset, limit],
        "revision": entry.hub and (hub_revision(entry.hub) or recorded_inputs(path).get("revision")),
        "text_field": entry.text_field,
        "tokenizer": tokenizer_fingerprint(base),
    }

    def make(folder: Path) -> None:
        dropped = DroppedText()
        if entry.hub:
            texts = read_hub_documents(entry.hub, entry.subset, entry.text_field, dropped)
        else:
            texts = read_documents(files, entry.text_field, dropped)
        tokens = write_documents(folder / "documents.arrow", texts, read_tokenizer(base), limit)
        write_json(folder / "corpus.json", {"tokens": tokens, "dropped": dropped.counts, "first": dropped.first_place})
        logger.info("%s %s: %s tokens%s", path.name, entry.language, f"{tokens:,}", _left_out(dropped))

    one_after_another(path, inputs, make)


def pack_corpora(recipe: Recipe, base: Path, tables: list[Path], measured: Path, work: Path) -> Path:
    """`training.arrow`, a block a row; `heldout-<language>.jsonl`; `validation-<language>.arrow`; `mix.json`.

    Documents that stand in measured text, or are held out, never train. Where the recipe decides something
    on text, the documents that decide are no longer among the held-out ones: `choice-<language>.jsonl`.
    """
    inputs = {
        "corpora": [stage_fingerprint(path) for path in tables],
        "measured": stage_fingerprint(measured),
        "entries": [entry.model_dump(include={"language", "tokens", "share", "repeat"}) for entry in recipe.corpus],
        "learn": recipe.languages.learn,
        "validation": recipe.validation.model_dump(),
        "deciding": recipe.deciding,
        "written": recipe.written_share,
        "max_length": recipe.max_length,
        "seed": recipe.seed,
    }
    return one_after_another(work / "blocks", inputs, lambda folder: _pack(recipe, base, tables, measured, folder))


def _pack(recipe: Recipe, base: Path, paths: list[Path], measured: Path, folder: Path) -> None:
    documents = [open_table(path / "documents.arrow") for path in paths]
    digests = [column(table, "digest") for table in documents]
    lengths = [column(table, "num_tokens") for table in documents]
    tokenizer = read_tokenizer(base)
    evaluated = {code: read_texts(measured / f"{code}.jsonl") for code in recipe.evaluation.text}
    heldout = {}
    for language in recipe.languages.learn:
        own = [i for i, entry in enumerate(recipe.corpus) if entry.language == language]
        heldout[language] = _held_out_texts(recipe, [(documents[i], digests[i], lengths[i]) for i in own])
    kept = {code: evaluated.get(code, heldout.get(code, [])) for code in recipe.languages.roles}
    for language, texts in kept.items():
        choice, rest = _parted(texts, recipe, language) if language in recipe.deciding else ([], texts)
        write_texts(folder / f"heldout-{language}.jsonl", rest)
        write_texts(folder / f"choice-{language}.jsonl", choice)
        for name, of in (("validation", rest), ("choice", choice)):
            write_text_blocks(
                folder / f"{name}-{language}.arrow", of, tokenizer, recipe.length, recipe.validation.blocks
            )
    never = np.array([text_digest(text) for texts in [*evaluated.values(), *heldout.values()] for text in texts])
    rows = [np.flatnonzero(~np.isin(own, never)) for own in digests]
    draws = mix(
        [
            Source(f"corpus.{i}", entry.language, lengths[i][rows[i]], entry.tokens, entry.share, entry.repeat)
            for i, entry in enumerate(recipe.corpus)
        ],
        recipe.seed,
        recipe.written_share,
    )
    draws = [Draw(rows[i][draw.documents], draw.tokens) for i, draw in enumerate(draws)]
    codes = list(recipe.languages.roles)
    numbers = [codes.index(entry.language) for entry in recipe.corpus]
    blocks = write_blocks(folder / "training.arrow", documents, draws, numbers, recipe.length, recipe.seed)
    total = round(sum(draw.total for draw in draws) / (1 - recipe.written_share))
    entries = []
    for i, (entry, draw) in enumerate(zip(recipe.corpus, draws, strict=True)):
        documents_drawn, kept_out, share = len(draw.documents), len(digests[i]) - len(rows[i]), draw.total / total
        entries.append(
            {
                "language": entry.language,
                "documents": documents_drawn,
                "tokens": draw.total,
                "share": share,
                "kept_out": kept_out,
            }
        )
        shown = (i, entry.language, f"{draw.total:,}", f"{documents_drawn:,}", 100 * share, f"{kept_out:,}")
        logger.info("corpus.%d %s: %s tokens of %s documents train, %.1f %% of all; %s documents kept out", *shown)
    write_json(folder / "mix.json", {"blocks": blocks, "tokens": total, "entries": entries})


def _held_out_texts(recipe: Recipe, sources: Sequence[tuple[Dataset, Indices, Indices]]) -> list[str]:
    """The held-out documents of one language, each different text once."""
    validation = recipe.validation
    digests, lengths = (np.concatenate([source[i] for source in sources]) for i in (1, 2))
    held = hold_out(digests, lengths, validation.share, validation.max_tokens, recipe.seed)
    texts = [text for table, own, _ in sources for text in table.select(np.flatnonzero(np.isin(own, held)))["text"]]
    return list(dict.fromkeys(texts))


def _parted(texts: Sequence[str], recipe: Recipe, language: str) -> tuple[list[str], list[str]]:
    """Documents that decide, and documents that are measured; equal texts stay together."""
    digests = np.array([text_digest(text) for text in texts], dtype=np.int64)
    sizes = np.array([len(text.encode()) for text in texts], dtype=np.int64)
    try:
        assert recipe.validation.choice is not None, "the recipe is not resolved"
        chosen = hold_out(digests, sizes, recipe.validation.choice, sys.maxsize, recipe.seed)
    except CorpusError as error:
        raise CorpusError(f"{language}: something is to be decided on a part of the text to measure: {error}") from None
    decides = np.isin(digests, chosen)
    logger.info("%s: %d documents decide, %d are measured", language, decides.sum(), (~decides).sum())
    return list(compress(texts, decides)), list(compress(texts, ~decides))


def evaluation_set(recipe: Recipe, blocks: Path, tasks: Tasks) -> EvaluationSet:
    """Each language's own text, or what was held out of its corpus; the questions; prompts from the texts."""
    texts = {code: read_texts(blocks / f"heldout-{code}.jsonl") for code in recipe.languages.roles}
    prompts = {code: draw_prompts(documents, recipe.evaluation.samples) for code, documents in texts.items()}
    return EvaluationSet(texts, tasks, prompts)


def _left_out(dropped: DroppedText) -> str:
    return f"; left out: {dropped}" if dropped else ""
