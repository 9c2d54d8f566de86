"""Stages of text: what is measured, what is tokenized, and what trains."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.artefacts import (
    file_fingerprint,
    read_json,
    recorded_inputs,
    stage_fingerprint,
    write_json,
)
from lingraft.checkpoints.read import read_tokenizer, tokenizer_fingerprint
from lingraft.corpus.hub import hub_revision, read_hub_rows
from lingraft.corpus.mix import Draw, Source, mix
from lingraft.corpus.pack import write_blocks, write_text_blocks
from lingraft.corpus.plain_text import warn_of_one_document
from lingraft.corpus.read import DroppedText, find_files, read_documents, read_rows, read_texts, write_texts
from lingraft.corpus.tokenize import open_table, write_documents, write_pairs
from lingraft.evaluation.measure import EvaluationSet
from lingraft.evaluation.questions import Tasks
from lingraft.evaluation.samples import draw_prompts
from lingraft.recipe import CorpusEntry, Recipe
from lingraft.stages import Tables, folder_of, one_after_another
from lingraft.stages.held_out import heldout_fingerprint
from lingraft.stages.overlap import overlap_of, read_overlap, trainable_tokens
from lingraft.training.schedule import MOST_BLOCKS, SCHEDULE_ARGUMENTS, num_steps, validation_blocks

logger = logging.getLogger(__name__)

REPLAY_MARGIN = 1.1
"""Of a hub dataset that is replayed, so much more is read than its share: some documents are kept out."""


def read_measured_text(recipe: Recipe, work: Path) -> Path:
    """`<language>.jsonl` of every language with text under `evaluation.text`."""
    files = {code: find_files(*patterns) for code, patterns in recipe.evaluation.text.items()}
    inputs = {
        "files": {code: [file_fingerprint(path) for path in paths] for code, paths in files.items()},
        "text_field": recipe.evaluation.text_field,
        "split": recipe.evaluation.split,
    }

    def make(folder: Path) -> None:
        for code, paths in files.items():
            dropped = DroppedText()
            documents = list(read_documents(paths, recipe.evaluation.text_field, dropped, recipe.evaluation.split))
            warn_of_one_document(paths, recipe.evaluation.split, len(documents))
            write_texts(folder / f"{code}.jsonl", documents)
            logger.info("%s: %d documents to measure on%s", code, len(documents), left_out(dropped))

    return one_after_another(work / "measured-text", inputs, make)


def tokenize_corpora(recipe: Recipe, model: Path, work: Path, folder: str = "corpus") -> Tables:
    """The documents of every corpus of every stage, in the tokens of a model.

    Files are read whole. A hub dataset is read as far as is needed: up to its budget and what is
    held out of it, or up to its share of the entries without one, which are read first.
    """
    return {
        name: _tokenize_corpora(stage, model, folder_of(work, name), folder) for name, stage in recipe.expanded.items()
    }


def _tokenize_corpora(recipe: Recipe, model: Path, work: Path, folder: str) -> list[Path]:
    paths = {i: work / f"{folder}-{i}" for i in range(len(recipe.corpus))}
    total = 0
    for i, entry in enumerate(recipe.corpus):
        if entry.share is None:
            limit = entry.tokens and entry.tokens + _held_out_tokens(recipe, entry.tokens)
            _tokenize(entry, model, paths[i], limit)
            total += min(read_json(paths[i] / "corpus.json")["tokens"] * entry.repeat, limit or sys.maxsize)
    shares = sum(entry.share or 0 for entry in recipe.corpus) + recipe.written_share
    for i, entry in enumerate(recipe.corpus):
        if entry.share is not None:
            limit = int(entry.share * total / (1 - shares) * REPLAY_MARGIN) + _held_out_tokens(recipe, total)
            _tokenize(entry, model, paths[i], limit)
    return list(paths.values())


def _held_out_tokens(recipe: Recipe, tokens: int) -> int:
    """About how many of so many tokens do not train, and have to be read beside them."""
    return min(int(tokens * recipe.validation.share) + 1, recipe.validation.max_tokens)


def _tokenize(entry: CorpusEntry, model: Path, path: Path, limit: int | None) -> None:
    files = find_files(*entry.files or [])
    limit = limit if entry.hub else None
    inputs = {
        "files": [file_fingerprint(file) for file in files],
        "hub": [entry.hub, entry.subset, limit],
        "revision": entry.hub and (hub_revision(entry.hub) or recorded_inputs(path).get("revision")),
        "text_field": entry.text_field,
        "split": entry.split,
        **({"parallel": list(entry.parallel.items())} if entry.parallel else {}),
        "tokenizer": tokenizer_fingerprint(model),
    }

    def make(folder: Path) -> None:
        dropped = DroppedText()
        if entry.hub:
            rows = read_hub_rows(entry.hub, entry.subset, entry.fields, dropped)
        else:
            rows = read_rows(files, entry.fields, dropped, entry.split)
        table, tokenizer = folder / "documents.arrow", read_tokenizer(model)
        if entry.parallel:
            tokens = write_pairs(table, rows, tokenizer, limit)
        else:
            tokens = write_documents(table, (texts[0] for texts in rows), tokenizer, limit)
        if files:
            warn_of_one_document(files, entry.split, len(open_table(table)))
        write_json(folder / "corpus.json", {"tokens": tokens, "dropped": dropped.counts, "first": dropped.first_place})
        logger.info("%s %s: %s tokens%s", path.name, entry.title, f"{tokens:,}", left_out(dropped))

    one_after_another(path, inputs, make)


def pack_corpora(recipe: Recipe, model: Path, tables: Sequence[Path], heldout: Path, work: Path) -> Path:
    """`training.arrow`, a block a row; `mix.json`; `validation-` and `choice-<language>.arrow` of what is held out."""
    inputs = {
        "corpora": [stage_fingerprint(path) for path in tables],
        "heldout": heldout_fingerprint(heldout),
        "trains": [stage_fingerprint(overlap_of(path)) for path in tables],
        "tokenizer": tokenizer_fingerprint(model),
        "entries": [entry.model_dump(include={"tokens", "share", "repeat"}) for entry in recipe.corpus],
        "validation": recipe.validation.model_dump(),
        **schedule_inputs(recipe),
        "written": recipe.written_share,
        "max_length": recipe.max_length,
        "seed": recipe.seed,
    }
    return one_after_another(work / "blocks", inputs, lambda folder: _pack(recipe, model, tables, heldout, folder))


def _pack(recipe: Recipe, model: Path, paths: Sequence[Path], heldout: Path, folder: Path) -> None:
    documents = [open_table(path / "documents.arrow") for path in paths]
    lengths = [trainable_tokens(path) for path in paths]
    rows = [np.flatnonzero(of) for of in lengths]
    overlaps = [read_overlap(path) for path in paths]
    draws = mix(
        [
            Source(f"corpus.{i}", entry.title, lengths[i][rows[i]], entry.tokens, entry.share, entry.repeat)
            for i, entry in enumerate(recipe.corpus)
        ],
        recipe.seed,
        recipe.written_share,
    )
    draws = [Draw(rows[i][draw.documents], draw.tokens) for i, draw in enumerate(draws)]
    codes = list(recipe.languages.roles)
    numbers = [[codes.index(code) for code in entry.languages] for entry in recipe.corpus]
    blocks = write_blocks(folder / "training.arrow", documents, draws, numbers, recipe.length, recipe.seed)
    looked_at = recipe.validation.blocks
    if looked_at is None:
        steps = num_steps(recipe.training, ceil(blocks / (1 - recipe.written_share)))
        looked_at = validation_blocks(recipe.training, steps, len(codes))
    write_heldout_blocks(recipe, model, heldout, folder, looked_at)
    total = round(sum(draw.total for draw in draws) / (1 - recipe.written_share))
    entries = []
    for i, (entry, draw) in enumerate(zip(recipe.corpus, draws, strict=True)):
        documents_drawn, kept_out, share = len(draw.documents), len(documents[i]) - len(rows[i]), draw.total / total
        entries.append(
            {
                "language": entry.title,
                "documents": documents_drawn,
                "tokens": draw.total,
                "share": share,
                "kept_out": kept_out,
                "overlap": overlaps[i],
            }
        )
        shown = (i, entry.title, f"{draw.total:,}", f"{documents_drawn:,}", 100 * share, f"{kept_out:,}")
        logger.info("corpus.%d %s: %s tokens of %s documents train, %.1f %% of all; %s documents kept out", *shown)
    write_json(folder / "mix.json", {"blocks": blocks, "tokens": total, "entries": entries})


def schedule_inputs(recipe: Recipe) -> dict[str, Any]:
    """What the number of blocks to look at follows from, where the recipe does not say it."""
    if recipe.validation.blocks is not None:
        return {}
    return {"schedule": {name: recipe.training.get(name) for name in SCHEDULE_ARGUMENTS}}


def write_heldout_blocks(recipe: Recipe, model: Path, heldout: Path, folder: Path, num_blocks: int) -> None:
    """As blocks in a model's tokens: what is looked at while it trains, `num_blocks` a language, and what decides."""
    deciding = recipe.validation.blocks or MOST_BLOCKS
    tokenizer = read_tokenizer(model)
    for language in recipe.languages.roles:
        for blocks, texts, most in (("validation", "heldout", num_blocks), ("choice", "choice", deciding)):
            write_text_blocks(
                folder / f"{blocks}-{language}.arrow",
                read_texts(heldout / f"{texts}-{language}.jsonl"),
                tokenizer,
                recipe.length,
                most,
            )


def evaluation_set(recipe: Recipe, heldout: Path, tasks: Tasks) -> EvaluationSet:
    """Each language's own text, or what was held out of its corpus; the questions; prompts from the texts."""
    texts = {code: read_texts(heldout / f"heldout-{code}.jsonl") for code in recipe.languages.roles}
    prompts = {code: draw_prompts(documents, recipe.evaluation.samples) for code, documents in texts.items()}
    return EvaluationSet(texts, tasks, prompts)


def left_out(dropped: DroppedText) -> str:
    return f"; left out: {dropped}" if dropped else ""
