"""Stages of text: what is measured, what is tokenized, what is held out, and what trains."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from itertools import compress
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lingraft.artefacts import (
    file_fingerprint,
    files_fingerprint,
    read_json,
    recorded_inputs,
    stage_fingerprint,
    write_json,
)
from lingraft.checkpoints.read import read_tokenizer, tokenizer_fingerprint
from lingraft.corpus.hub import hub_revision, read_hub_rows
from lingraft.corpus.mix import Draw, Source, hold_out, mix
from lingraft.corpus.pack import write_blocks, write_text_blocks
from lingraft.corpus.read import DroppedText, find_files, read_documents, read_rows, read_texts, write_texts
from lingraft.corpus.tokenize import column, digests, open_table, text_digest, write_documents, write_pairs
from lingraft.errors import CorpusError
from lingraft.evaluation.measure import EvaluationSet
from lingraft.evaluation.questions import Tasks
from lingraft.evaluation.samples import draw_prompts
from lingraft.recipe import CorpusEntry, Recipe
from lingraft.stages import folder_of, one_after_another
from lingraft.training.schedule import MOST_BLOCKS, SCHEDULE_ARGUMENTS, num_steps, validation_blocks

logger = logging.getLogger(__name__)

Tables = Mapping[str, Sequence[Path]]
"""Stage -> a folder with the table `documents.arrow` for each entry of its corpus."""

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
        **({"parallel": list(entry.parallel.items())} if entry.parallel else {}),
        "tokenizer": tokenizer_fingerprint(model),
    }

    def make(folder: Path) -> None:
        dropped = DroppedText()
        if entry.hub:
            rows = read_hub_rows(entry.hub, entry.subset, entry.fields, dropped)
        else:
            rows = read_rows(files, entry.fields, dropped)
        table, tokenizer = folder / "documents.arrow", read_tokenizer(model)
        if entry.parallel:
            tokens = write_pairs(table, rows, tokenizer, limit)
        else:
            tokens = write_documents(table, (texts[0] for texts in rows), tokenizer, limit)
        write_json(folder / "corpus.json", {"tokens": tokens, "dropped": dropped.counts, "first": dropped.first_place})
        logger.info("%s %s: %s tokens%s", path.name, entry.title, f"{tokens:,}", left_out(dropped))

    one_after_another(path, inputs, make)


def hold_out_text(recipe: Recipe, tables: Tables, measured: Path, work: Path) -> Path:
    """`heldout-<language>.jsonl`, what is measured; `never.json`, digests of all that may not train.

    Of a learned language, documents of its corpora in all stages are held out. Where the recipe decides something
    on text, the documents that decide are no longer among those: `choice-<language>.jsonl`.
    """
    inputs = {
        "corpora": {
            code: [stage_fingerprint(path) for path in tables_of(code, recipe, tables)]
            for code in recipe.languages.learn
        },
        "measured": stage_fingerprint(measured),
        "languages": recipe.languages.model_dump(),
        "validation": recipe.validation.model_dump(),
        "deciding": recipe.deciding,
        "seed": recipe.seed,
    }
    return one_after_another(work / "heldout", inputs, lambda folder: _hold_out(recipe, tables, measured, folder))


def _hold_out(recipe: Recipe, tables: Tables, measured: Path, folder: Path) -> None:
    evaluated = {code: read_texts(measured / f"{code}.jsonl") for code in recipe.evaluation.text}
    heldout = {}
    for language in recipe.languages.learn:
        own = tables_of(language, recipe, tables)
        heldout[language] = _held_out_texts(recipe, own) if own else []
    kept = {code: evaluated.get(code, heldout.get(code, [])) for code in recipe.languages.roles}
    for language, texts in kept.items():
        choice, rest = _parted(texts, recipe, language) if language in recipe.deciding else ([], texts)
        write_texts(folder / f"heldout-{language}.jsonl", rest)
        write_texts(folder / f"choice-{language}.jsonl", choice)
    never = {text_digest(text) for texts in [*evaluated.values(), *heldout.values()] for text in texts}
    write_json(folder / "never.json", sorted(never))


def tables_of(language: str, recipe: Recipe, tables: Tables) -> list[Path]:
    """The tables of text in one language alone, of all stages; what two stages train on is there once."""
    found = {
        stage_fingerprint(path): path
        for name, stage in recipe.expanded.items()
        for entry, path in zip(stage.corpus, tables[name], strict=True)
        if entry.language == language
    }
    return list(found.values())


def _held_out_texts(recipe: Recipe, paths: Sequence[Path]) -> list[str]:
    """The held-out documents of one language, each different text once."""
    validation, tables = recipe.validation, [open_table(path / "documents.arrow") for path in paths]
    own = [column(table, "digest") for table in tables]
    sizes = [column(table, "num_tokens") for table in tables]
    first = [~np.isin(of, np.concatenate([of[:0], *own[:i]])) for i, of in enumerate(own)]  # seen in no table before
    each, of_each = (
        np.concatenate([of[new] for of, new in zip(all_of, first, strict=True)]) for all_of in (own, sizes)
    )
    held = hold_out(each, of_each, validation.share, validation.max_tokens, recipe.seed)
    texts = [
        text
        for table, of in zip(tables, own, strict=True)
        for text in table.select(np.flatnonzero(np.isin(of, held)))["text"]
    ]
    return list(dict.fromkeys(texts))


def _parted(texts: Sequence[str], recipe: Recipe, language: str) -> tuple[list[str], list[str]]:
    """Documents that decide, and documents that are measured; equal texts stay together."""
    marks = np.array([text_digest(text) for text in texts], dtype=np.int64)
    sizes = np.array([len(text.encode()) for text in texts], dtype=np.int64)
    try:
        assert recipe.validation.choice is not None, "the recipe is not resolved"
        chosen = hold_out(marks, sizes, recipe.validation.choice, sys.maxsize, recipe.seed)
    except CorpusError as error:
        raise CorpusError(f"{language}: something is to be decided on a part of the text to measure: {error}") from None
    decides = np.isin(marks, chosen)
    logger.info("%s: %d documents decide, %d are measured", language, decides.sum(), (~decides).sum())
    return list(compress(texts, decides)), list(compress(texts, ~decides))


def heldout_fingerprint(heldout: Path) -> str:
    """Stands for the texts that are held out, whatever they were chosen from."""
    return files_fingerprint(sorted([heldout / "never.json", *heldout.glob("*.jsonl")]))


def may_train(table: Path, heldout: Path) -> npt.NDArray[np.bool_]:
    """(documents,): those none of whose texts is measured or held out."""
    never = np.array(read_json(heldout / "never.json"), dtype=np.int64)
    is_kept_out = np.isin(digests(open_table(table / "documents.arrow")), never)  # (documents, texts)
    return np.asarray(~is_kept_out.any(axis=1))


def pack_corpora(recipe: Recipe, model: Path, tables: Sequence[Path], heldout: Path, work: Path) -> Path:
    """`training.arrow`, a block a row; `mix.json`; `validation-` and `choice-<language>.arrow` of what is held out."""
    inputs = {
        "corpora": [stage_fingerprint(path) for path in tables],
        "heldout": heldout_fingerprint(heldout),
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
    lengths = [column(table, "num_tokens") for table in documents]
    rows = [np.flatnonzero(may_train(path, heldout)) for path in paths]
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
