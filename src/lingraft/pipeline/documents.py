"""Steps that read text: the documents of corpora, and the text to measure on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.cache import read_json, recorded_inputs, write_json
from lingraft.checkpoints.read import read_tokenizer
from lingraft.corpus.formats import PLAIN_TEXT, format_of
from lingraft.corpus.hub import hub_revision, read_hub_rows
from lingraft.corpus.plain_text import warn_of_one_document
from lingraft.corpus.read import DroppedText, Split, read_documents, read_rows, write_texts
from lingraft.corpus.tokenize import open_table, write_documents, write_pairs
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import Files, Tokenizer
from lingraft.recipe import CorpusEntry
from lingraft.recipe.text import Validation

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

REPLAY_MARGIN = 1.1
"""Of a hub dataset that is replayed, so much more is read than its share: some documents are held out."""


@dataclass(frozen=True)
class TextSource:
    """Where documents, or pairs of them, come from."""

    title: str
    """The language, or both of pairs."""
    files: Files
    hub: str | None
    subset: str | None
    fields: tuple[str, ...]
    """Of a record: the one with the text, or those with the two sides of a pair."""
    split: Split | None
    max_tokens: int | None
    """Of a hub dataset no more is read."""
    revision: str | None

    @property
    def are_pairs(self) -> bool:
        return len(self.fields) > 1

    def rows(self, dropped: DroppedText) -> Iterator[tuple[str, ...]]:
        """The texts of each record."""
        if self.hub:
            return read_hub_rows(self.hub, self.subset, list(self.fields), dropped)
        return read_rows(self.files.paths, list(self.fields), dropped, self.split)


class Documents(Artefact):
    """A table of documents with their tokens."""

    @property
    def table(self) -> Dataset:
        return open_table(self.folder / "documents.arrow")

    @property
    def record(self) -> dict[str, Any]:
        """`tokens`, what was `dropped`, and plain text that was cut at blank lines."""
        record: dict[str, Any] = read_json(self.folder / "corpus.json")
        return record


@step(Documents)
def tokenize(folder: Path, source: TextSource, tokenizer: Tokenizer) -> None:
    """`documents.arrow`, `corpus.json`."""
    dropped, loaded = DroppedText(), read_tokenizer(tokenizer.folder)
    table, rows = folder / "documents.arrow", source.rows(dropped)
    if source.are_pairs:
        tokens = write_pairs(table, rows, loaded, source.max_tokens)
    else:
        tokens = write_documents(table, (texts[0] for texts in rows), loaded, source.max_tokens)
    if source.files.patterns:
        warn_of_one_document(source.files.paths, source.split, len(open_table(table)))
    at_blank_lines = [
        path for path in source.files.paths if format_of(path) == PLAIN_TEXT and source.split in (None, "paragraphs")
    ]
    record = {"tokens": tokens, "dropped": dropped.counts, "first": dropped.first_place}
    write_json(folder / "corpus.json", {**record, "cut_at_blank_lines": [str(path) for path in at_blank_lines]})
    logger.info("%s: %s tokens%s", source.title, f"{tokens:,}", left_out(dropped))


def tokenize_corpus(
    corpus: Sequence[CorpusEntry], generated_share: float, validation: Validation, tokenizer: Tokenizer, name: Path
) -> list[Documents]:
    """The documents of each entry of a corpus, at `name` with the entry's number.

    Files are read whole. A hub dataset is read as far as is needed: up to its budget and what is held out of it, or
    up to its share of the entries without one, which are read first.
    """

    def held_out(tokens: int) -> int:
        """About how many of so many tokens do not train, and have to be read beside them."""
        return min(int(tokens * validation.share) + 1, validation.max_tokens)

    made: dict[int, Documents] = {}
    total = 0
    for i, entry in enumerate(corpus):
        if entry.share is None:
            limit = entry.tokens and entry.tokens + held_out(entry.tokens)
            made[i] = _tokenize(name.with_name(f"{name.name}-{i}"), entry, limit, tokenizer)
            total += min(made[i].record["tokens"] * entry.max_epochs, limit or sys.maxsize)
    shares = sum(entry.share or 0 for entry in corpus) + generated_share
    for i, entry in enumerate(corpus):
        if entry.share is not None:
            limit = int(entry.share * total / (1 - shares) * REPLAY_MARGIN) + held_out(total)
            made[i] = _tokenize(name.with_name(f"{name.name}-{i}"), entry, limit, tokenizer)
    return [made[i] for i in sorted(made)]


def _tokenize(path: Path, entry: CorpusEntry, max_tokens: int | None, tokenizer: Tokenizer) -> Documents:
    return tokenize(path, source_of(entry, path, max_tokens), tokenizer)


def source_of(entry: CorpusEntry, path: Path, max_tokens: int | None = None) -> TextSource:
    """Where the documents of an entry come from; out of reach of the hub, the revision that was read into `path`."""
    revision = None
    if entry.hub:
        revision = hub_revision(entry.hub) or recorded_inputs(path).get("source", {}).get("revision")
    return TextSource(
        entry.title,
        Files(tuple(entry.files or ())),
        entry.hub,
        entry.subset,
        tuple(entry.fields),
        entry.split,
        max_tokens if entry.hub else None,
        revision,
    )


class MeasuredText(Artefact):
    """The text under `evaluation.text`."""

    def path(self, language: str) -> Path:
        return self.folder / f"{language}.jsonl"


@step(MeasuredText)
def read_measured_text(folder: Path, files: Mapping[str, Files], text_field: str, split: Split | None) -> None:
    """`<language>.jsonl`."""
    for code, of in files.items():
        dropped = DroppedText()
        documents = list(read_documents(of.paths, text_field, dropped, split))
        warn_of_one_document(of.paths, split, len(documents))
        write_texts(folder / f"{code}.jsonl", documents)
        logger.info("%s: %d documents to measure on%s", code, len(documents), left_out(dropped))


def left_out(dropped: DroppedText) -> str:
    return f"; left out: {dropped}" if dropped else ""
