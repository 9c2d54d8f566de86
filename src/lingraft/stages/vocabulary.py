"""Stage of new words: the base's tokenizer continued on text of the learned languages, and rows for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.artefacts import stage_fingerprint, write_json
from lingraft.checkpoints.parents import open_parent
from lingraft.checkpoints.read import model_fingerprint, read_tokenizer, tokenizer_fingerprint
from lingraft.recipe import Recipe
from lingraft.recipe.schema import Vocabulary
from lingraft.stages import Tables, one_after_another
from lingraft.stages.held_out import tables_of
from lingraft.stages.overlap import overlap_of, trainable_text, trainable_tokens
from lingraft.vocabulary.extend import extend
from lingraft.vocabulary.fertility import ENGLISH, fertility, warn_of_fragments
from lingraft.vocabulary.model import read_backend, read_bpe, rows_for, write_extended

logger = logging.getLogger(__name__)


def check_vocabulary(recipe: Recipe, base: Path) -> None:
    """Find out before text is read whether the tokenizer can learn words.

    Raises:
        ModelError: it is none that can be continued, or does not fit the embeddings.
    """
    if recipe.vocabulary:
        rows_for(open_parent(base), read_bpe(base), recipe.vocabulary.add)


def extend_vocabulary(recipe: Recipe, base: Path, tables: Tables, work: Path) -> Path:
    """The folder of the base with new words, `extended/model`; the base's own where none are asked for.

    Words are learned on documents that may train, of the corpora of learned languages in all stages.
    """
    if recipe.vocabulary is None:
        return base
    words = recipe.vocabulary
    sources = {code: tables_of(code, recipe, tables) for code in recipe.languages.learn}
    inputs = {
        "base": model_fingerprint(base),
        "tokenizer": tokenizer_fingerprint(base),
        "corpora": {code: [stage_fingerprint(path) for path in paths] for code, paths in sources.items()},
        "trains": {code: [stage_fingerprint(overlap_of(path)) for path in paths] for code, paths in sources.items()},
        "vocabulary": words.model_dump(),
        "seed": recipe.seed,
    }

    def texts() -> Iterator[str]:
        for paths in sources.values():
            yield from _drawn(paths, words.max_bytes // len(sources), recipe.seed)

    def make(folder: Path) -> None:
        (folder / "model").mkdir()
        write_json(folder / "vocabulary.json", _extend(words, base, texts(), folder / "model"))

    return one_after_another(work / "extended", inputs, make) / "model"


def measure_fertility(texts: Mapping[str, Sequence[str]], base: Path, start: Path) -> dict[str, Any]:
    """What tokenizers make of measured text: `before`, and `after` where words were added; says where it is little."""
    found: dict[str, Any] = {}
    for when, folder in {"before": base, "after": start}.items():
        if when == "after" and start == base:
            continue
        if not read_tokenizer(folder).is_fast:
            return {}
        counts = {code: fertility(read_backend(folder), of) for code, of in texts.items()}
        found[when] = {code: of.record(counts.get(ENGLISH)) for code, of in counts.items()}
        if folder == start:
            for code, of in counts.items():
                warn_of_fragments("the base" if start == base else "the tokenizer with new words", code, of, counts)
    return found


def _drawn(paths: list[Path], max_bytes: int, seed: int) -> Iterator[str]:
    """Documents that may train, in an order of their own, up to so many bytes; the last one is cut."""
    text_of = [trainable_text(path) for path in paths]
    rows = [np.flatnonzero(trainable_tokens(path)) for path in paths]
    places = np.concatenate([np.stack([np.full(len(of), i), of], axis=1) for i, of in enumerate(rows)])
    left = max_bytes
    for i, row in np.random.default_rng([seed, 0x30BD]).permutation(places).tolist():
        raw = text_of[i](row).encode()
        yield raw[:left].decode(errors="ignore")
        left -= len(raw)
        if left <= 0:
            return


def _extend(words: Vocabulary, base: Path, texts: Iterator[str], folder: Path) -> dict[str, Any]:
    """Write the model with new words; returns what `lingraft.json` says of them."""
    parent, bpe = open_parent(base), read_bpe(base)
    rows = rows_for(parent, bpe, words.add)
    extension = extend(bpe, texts, words.add)
    write_extended(parent, extension, words.init, rows, folder)
    logger.info("%s new tokens, rows by %s", f"{words.add:,}", words.init)
    return {**words.model_dump(), "first": extension.first, "tokens": len(extension.bpe.strings), "rows": rows}
