"""Tokenizers before training: measure fertility, and add new tokens."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.cache import file_fingerprint, write_json
from lingraft.checkpoints.cards import as_code, card, escaped
from lingraft.checkpoints.config import CONFIG
from lingraft.checkpoints.names import on_hub, public_name
from lingraft.checkpoints.read import TOKENIZER_ONLY, find_folder, model_files
from lingraft.checkpoints.tokens import check_tokens
from lingraft.corpus.read import DroppedText, Split, check_split, find_files, read_documents
from lingraft.disk import new_folder, remove_leftovers
from lingraft.errors import ModelError, UserError, nearest
from lingraft.input_files import Sources
from lingraft.languages import by_code
from lingraft.merging.manifest import check_holds_only, was_made_from, write_manifest
from lingraft.merging.source_model import open_source_model
from lingraft.output_paths import check_not_read, file_target, folder_target, is_results
from lingraft.vocabulary import INITS, Init
from lingraft.vocabulary.extend import VERSION
from lingraft.vocabulary.extend import extend as extend_bpe
from lingraft.vocabulary.fertility import ENGLISH, warn_of_over_segmentation
from lingraft.vocabulary.fertility import fertility as count
from lingraft.vocabulary.model import read_backend, read_bpe, rows_for, write_extended

__all__ = ["extend", "fertility"]

logger = logging.getLogger(__name__)


def fertility(
    models: Sequence[str | Path],
    text: Mapping[str, str | Sequence[str]],
    *,
    text_field: str = "text",
    split: Split | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Measure tokenizers on texts: tokens per word, bytes per token, byte-fallback tokens, cost relative to English.

    `text` maps a language to files or glob patterns. Returns, and writes to `out`, `{"schema": 1, "models": {model:
    {language: {...}}}}`. Warns of languages that a tokenizer over-segments.

    Raises:
        UserError: text, models or languages that do not exist.
    """
    text = by_code(text)
    files = {
        code: find_files(*([patterns] if isinstance(patterns, str) else patterns)) for code, patterns in text.items()
    }
    check_split(split, [path for paths in files.values() for path in paths])
    reads = [*models, *(path for paths in files.values() for path in paths)]
    target = None if out is None else file_target(out, is_results, reads)
    found: dict[str, dict[str, Any]] = {}
    for model in models:
        folder, dropped = find_folder(str(model), TOKENIZER_ONLY), DroppedText()
        tokenizer = read_backend(folder)
        if (folder / CONFIG).is_file():  # a tokenizer alone has no rows to compare with
            check_tokens(folder)
        counts = {
            code: count(tokenizer, read_documents(paths, text_field, dropped, split)) for code, paths in files.items()
        }
        log_dropped(dropped)
        found[str(model)] = {code: counted.record(counts.get(ENGLISH)) for code, counted in counts.items()}
        for code, counted in counts.items():
            warn_of_over_segmentation(str(model), code, counted, counts)
    measured = {"schema": 1, "models": found}
    if target is not None:
        write_json(target, measured)
    return measured


def log_dropped(dropped: DroppedText) -> None:
    if dropped:
        logger.warning("left out: %s", dropped)


def extend(
    model: str | Path,
    text: str | Sequence[str],
    tokens: int,
    out: str | Path,
    *,
    init: Init = "subtoken-mean",
    text_field: str = "text",
    split: Split | None = None,
) -> Path:
    """Write a model with `tokens` new tokens, learned on files of text in the new language.

    Byte-pair encoding continues: the old merges apply first, then the new ones. A text that uses no new token keeps
    its ids, every text still decodes to itself, and every new token comes out of some text. `init` sets how the
    rows of new tokens are initialized (`vocabulary.embedding_init`); all other weights stay bit for bit, and tied
    embeddings stay tied.

    Raises:
        UserError: a number or an init that is not allowed.
        CorpusError: no text, or too little for that many tokens.
        ModelError: a model or a tokenizer that cannot be extended; says why.
        OutputError: `out` holds something else.
    """
    out = folder_target(out)
    if tokens < 1:
        raise UserError(f"--tokens {tokens}: at least one token must be added")
    if init not in INITS:
        raise UserError(f"--init {init}: allowed are {', '.join(INITS)}{nearest(init, INITS)}")
    patterns = [text] if isinstance(text, str) else text
    files = find_files(*patterns)
    check_split(split, files)
    parent = open_source_model(model)
    sources = Sources(lambda: {"text": find_files(*patterns), parent.name: model_files(parent.folder)})
    if parent.base:
        raise ModelError(f"{model} is an adapter; give its base model, or merge it first")
    check_not_read(out, [parent.folder, *files])
    bpe = read_bpe(parent.tokenizer_folder)
    rows = rows_for(parent, bpe, tokens)
    texts = {"text": [file_fingerprint(path) for path in files], "text_field": text_field, "split": split}
    record: dict[str, Any] = {
        "extension": {"tokens": tokens, "init": init, "first": len(bpe.strings), "version": VERSION, **texts},
        "base": {"name": public_name(parent.name), "fingerprint": parent.fingerprint},
        "rows": rows,
    }
    check_holds_only(out, "extension")
    if was_made_from(out, record):
        remove_leftovers(out)
        logger.info("%s: finished before, kept", out)
        return out
    dropped, started = DroppedText(), time.perf_counter()
    extension = extend_bpe(bpe, read_documents(files, text_field, dropped, split), tokens)
    log_dropped(dropped)
    with new_folder(out) as temporary:
        write_extended(parent, extension, init, rows, temporary)
        write_manifest(temporary, record, _card(record, parent.name if on_hub(parent.name) else None))
        sources.check()
    logger.info("%s: %s new tokens in %.1f s", out, f"{tokens:,}", time.perf_counter() - started)
    return out


def _card(record: Mapping[str, Any], hub_name: str | None) -> str:
    extension, base = record["extension"], record["base"]
    lines = [
        f"# {escaped(base['name'])} with {extension['tokens']:,} new tokens",
        "",
        f"Made by lingraft without training: new tokens have the ids from {extension['first']:,} on, their rows are "
        f"initialized by {as_code(extension['init'])}; all else is the base's.",
        "",
        f"- base: {escaped(base['name'])}, {as_code(base['fingerprint'])}",
        f"- rows in the embeddings: {record['rows']:,}",
        "",
        "The base's licence applies.",
    ]
    return card({"library_name": "transformers", "tags": ["lingraft"], "base_model": hub_name}, lines)
