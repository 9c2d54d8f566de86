"""The step that adds tokens: it continues the base's tokenizer on text of the learned languages, and adds rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.cache import read_json, write_json
from lingraft.checkpoints.read import read_tokenizer
from lingraft.merging.source_model import open_source_model
from lingraft.pipeline.check import merge_steps_of
from lingraft.pipeline.decontaminate import Trainable
from lingraft.pipeline.documents import Documents
from lingraft.pipeline.merge import check_merge
from lingraft.pipeline.step import step
from lingraft.pipeline.text import Text
from lingraft.pipeline.values import Model, ModelArtefact
from lingraft.recipe import Recipe
from lingraft.recipe.schema import Vocabulary
from lingraft.schema import FertilityChange
from lingraft.vocabulary.extend import VERSION, extend
from lingraft.vocabulary.fertility import ENGLISH, fertility, warn_of_over_segmentation
from lingraft.vocabulary.model import read_backend, read_bpe, rows_for, write_extended

logger = logging.getLogger(__name__)


class ExtendedModel(ModelArtefact):
    """The base with new tokens."""

    @property
    def record(self) -> dict[str, Any]:
        """What `lingraft.json` says of the new tokens."""
        return {**read_json(self.folder / "vocabulary.json"), "fingerprint": self.fingerprint}

    @property
    def first(self) -> int:
        """The id of the first new token."""
        return int(self.record["first"])


def extend_vocabulary(recipe: Recipe, base: Model, text: Text, work: Path) -> ExtendedModel | None:
    """Add the new tokens of a recipe to the base; None if the recipe adds none.

    Raises:
        CorpusError: too little text for so many tokens.
        ModelError: a model of `merge` does not fit the model with new tokens.
    """
    if recipe.vocabulary is None:
        return None
    extended = add_tokens(work / "extended", base, *text.alone(recipe), recipe.vocabulary, recipe.seed)
    check_merge(merge_steps_of(recipe), base.folder, extended.model.folder)
    return extended


@step(ExtendedModel, version=VERSION)
def add_tokens(
    folder: Path,
    base: Model,
    documents: Mapping[str, Sequence[Documents]],
    trainable: Mapping[str, Sequence[Trainable]],
    vocabulary: Vocabulary,
    seed: int,
) -> None:
    """`model`, the base with new tokens; `vocabulary.json`.

    Tokens are learned on documents that may train, of the corpora of each learned language in all stages.
    """

    def texts() -> Iterator[str]:
        for code, tables in documents.items():
            yield from _drawn(tables, trainable[code], vocabulary.max_bytes // len(documents), seed)

    parent, bpe = open_source_model(base.folder), read_bpe(base.folder)
    rows = rows_for(parent, bpe, vocabulary.new_tokens)
    extension = extend(bpe, texts(), vocabulary.new_tokens)
    (folder / "model").mkdir()
    write_extended(parent, extension, vocabulary.init, rows, folder / "model")
    logger.info("%s new tokens, rows by %s", f"{vocabulary.new_tokens:,}", vocabulary.init)
    sizes = {"first": extension.first, "tokens": len(extension.bpe.strings), "rows": rows}
    write_json(folder / "vocabulary.json", {**vocabulary.model_dump(), **sizes})


def _drawn(documents: Sequence[Documents], trainable: Sequence[Trainable], max_bytes: int, seed: int) -> Iterator[str]:
    """Yield documents that may train in random order, up to so many bytes; the last one is cut."""
    text_of = [part.text_of(table) for part, table in zip(trainable, documents, strict=True)]
    rows = [np.flatnonzero(part.tokens) for part in trainable]
    places = np.concatenate([np.stack([np.full(len(numbers), i), numbers], axis=1) for i, numbers in enumerate(rows)])
    left = max_bytes
    for i, row in np.random.default_rng([seed, 0x30BD]).permutation(places).tolist():
        raw = text_of[i](row).encode()
        yield raw[:left].decode(errors="ignore")
        left -= len(raw)
        if left <= 0:
            return


def measure_fertility(texts: Mapping[str, Sequence[str]], base: Model, start: Model) -> FertilityChange:
    """Measure the fertility of the tokenizer `before` and, with new tokens, `after`; warn of over-segmentation."""
    found: dict[str, Any] = {}
    for when, model in {"before": base, **({"after": start} if start != base else {})}.items():
        if not read_tokenizer(model.folder).is_fast:
            return FertilityChange()
        counts = {code: fertility(read_backend(model.folder), documents) for code, documents in texts.items()}
        found[when] = {code: count.record(counts.get(ENGLISH)) for code, count in counts.items()}
        if model == start:
            for code, count in counts.items():
                warn_of_over_segmentation(
                    "the base" if start == base else "the tokenizer with new tokens", code, count, counts
                )
    return FertilityChange.model_validate(found)
