"""Tokenizers before training: what they make of a language, and new words for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingraft.artefacts import (
    check_file_target,
    check_folder_target,
    file_fingerprint,
    new_folder,
    remove_leftovers,
    write_json,
)
from lingraft.checkpoints.manifest import check_holds_only, was_made_from, write_manifest
from lingraft.checkpoints.parents import check_output_is_no_parent, open_parent
from lingraft.checkpoints.read import TOKENIZER_ONLY, find_folder
from lingraft.corpus.read import DroppedText, find_files, read_documents
from lingraft.errors import ModelError, UserError, nearest
from lingraft.languages import by_code
from lingraft.vocabulary.extend import extend as extend_bpe
from lingraft.vocabulary.fertility import ENGLISH, warn_of_fragments
from lingraft.vocabulary.fertility import fertility as count
from lingraft.vocabulary.model import read_backend, read_bpe, rows_for, write_extended
from lingraft.vocabulary.rows import INITS, Init

__all__ = ["extend", "fertility"]

logger = logging.getLogger(__name__)


def fertility(
    models: Sequence[str | Path],
    text: Mapping[str, str | Sequence[str]],
    *,
    text_field: str = "text",
    out: str | Path | None = None,
) -> dict[str, Any]:
    """What the tokenizers of models make of texts: tokens per word, bytes per token, mere bytes, cost beside English.

    `text` maps a language to files or glob patterns. Returns, and writes to `out`, `{"schema": 1, "models": {model:
    {language: {...}}}}`. Warns of languages that a tokenizer cuts to pieces.

    Raises:
        UserError: text, models or languages that are not there.
    """
    if out is not None:
        check_file_target(Path(out))
    text = by_code(text)
    files = {code: find_files(*([of] if isinstance(of, str) else of)) for code, of in text.items()}
    found: dict[str, dict[str, Any]] = {}
    for model in models:
        tokenizer, dropped = read_backend(find_folder(str(model), TOKENIZER_ONLY)), DroppedText()
        counts = {code: count(tokenizer, read_documents(of, text_field, dropped)) for code, of in files.items()}
        _say_left_out(dropped)
        found[str(model)] = {code: of.record(counts.get(ENGLISH)) for code, of in counts.items()}
        for code, of in counts.items():
            warn_of_fragments(str(model), code, of, counts)
    measured = {"schema": 1, "models": found}
    if out is not None:
        write_json(Path(out), measured)
    return measured


def _say_left_out(dropped: DroppedText) -> None:
    if dropped:
        logger.warning("left out: %s", dropped)


def extend(
    model: str | Path,
    text: str | Sequence[str],
    tokens: int,
    out: str | Path,
    *,
    init: Init = "pieces",
    text_field: str = "text",
) -> Path:
    """A model whose tokenizer has `tokens` new words, learned on files of text in the new language.

    The byte-pair encoding is continued: its merges first, then new ones. A text that uses no new token keeps
    its ids, every text still decodes to itself, and every new token comes out of some text. `init` says what the
    rows of new tokens are (`vocabulary.rows`); all other weights are those of the model, bit for bit, and tied
    embeddings stay tied.

    Raises:
        UserError: a number or an init that is not allowed.
        CorpusError: no text, or too little for so many tokens.
        ModelError: a model or a tokenizer that cannot be continued; says why.
        OutputError: `out` holds something else.
    """
    out = Path(out)
    check_folder_target(out)
    if tokens < 1:
        raise UserError(f"--tokens {tokens}: at least one token must be added")
    if init not in INITS:
        raise UserError(f"--init {init}: allowed are {', '.join(INITS)}{nearest(init, INITS)}")
    files = find_files(*([text] if isinstance(text, str) else text))
    parent = open_parent(model)
    if parent.base:
        raise ModelError(f"{model} is an adapter; give the model that it is of, or merge it first")
    check_output_is_no_parent(out, [parent])
    bpe = read_bpe(parent.tokenizer_folder)
    rows = rows_for(parent, bpe, tokens)
    texts = {"text": [file_fingerprint(path) for path in files], "text_field": text_field}
    record: dict[str, Any] = {
        "extension": {"tokens": tokens, "init": init, "first": len(bpe.strings), **texts},
        "base": {"name": parent.name, "fingerprint": parent.fingerprint},
        "rows": rows,
    }
    check_holds_only(out, "extension")
    folder = out.resolve()  # of a link, what it leads to
    if was_made_from(folder, record):
        remove_leftovers(folder)
        logger.info("%s: finished before, kept", out)
        return out
    dropped, started = DroppedText(), time.perf_counter()
    extension = extend_bpe(bpe, read_documents(files, text_field, dropped), tokens)
    _say_left_out(dropped)
    with new_folder(folder) as temporary:
        write_extended(parent, extension, init, rows, temporary)
        write_manifest(temporary, record, _card(record))
    logger.info("%s: %s new tokens in %.1f s", out, f"{tokens:,}", time.perf_counter() - started)
    return out


def _card(record: Mapping[str, Any]) -> str:
    extension, base = record["extension"], record["base"]
    lines = [
        "---",
        "library_name: transformers",
        "tags: [lingraft]",
        *([] if Path(base["name"]).exists() else ["base_model:", f"- {base['name']}"]),
        "---",
        f"# {base['name']} with {extension['tokens']:,} new tokens",
        "",
        f"Made by lingraft without training: new tokens have the ids from {extension['first']:,} on, their rows are "
        f"initialised by `{extension['init']}`; all else is the base's.",
        "",
        f"- base: {base['name']}, `{base['fingerprint']}`",
        f"- rows in the embeddings: {record['rows']:,}",
        "",
        "The base's licence applies.",
        "",
    ]
    return "\n".join(lines)
