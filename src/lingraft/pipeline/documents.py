"""Steps that read text: the documents of corpora, and the text to measure on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.cache import read_json, recorded_inputs, write_json
from lingraft.corpus.plain_text import warn_of_one_document
from lingraft.corpus.read import DroppedText, Split, read_documents, write_texts
from lingraft.corpus.sources import Source
from lingraft.corpus.tokenize import open_table, write_documents, write_pairs
from lingraft.pipeline.generated_documents import GeneratedDocuments
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import Files, Tokenizer
from lingraft.recipe import CorpusEntry
from lingraft.recipe.text import Validation

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

REPLAY_MARGIN = 1.1
"""Of a source that is streamed and replayed, so much more is read than its share: some documents are held out."""


@dataclass(frozen=True)
class CorpusText:
    """The text of a corpus entry in its current state."""

    title: str
    """The language, or both of pairs."""
    source: Source
    content: Any
    """What stands for the text in the keys of steps."""
    max_tokens: int | None
    """Of a source that is streamed no more is read."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "source": self.source.settings,
            "content": self.content,
            "max_tokens": self.max_tokens,
        }


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
def tokenize(folder: Path, text: CorpusText, tokenizer: Tokenizer) -> None:
    """`documents.arrow`, `corpus.json`."""
    source, dropped, loaded = text.source, DroppedText(), tokenizer.load()
    table, rows = folder / "documents.arrow", (texts for _, texts in source.rows(dropped))
    if source.pair:
        tokens = write_pairs(table, rows, loaded, text.max_tokens)
    else:
        tokens = write_documents(table, (texts[0] for texts in rows), loaded, text.max_tokens)
    source.warn(len(open_table(table)))
    record = {"tokens": tokens, "dropped": dropped.counts, "first": dropped.first_place}
    cut_at_blank_lines = [str(path) for path in source.cut_at_blank_lines]
    write_json(folder / "corpus.json", {**record, "cut_at_blank_lines": cut_at_blank_lines})
    logger.info("%s: %s tokens%s", text.title, f"{tokens:,}", left_out(dropped))


def tokenize_corpus(
    corpus: Sequence[CorpusEntry], generated_share: float, validation: Validation, tokenizer: Tokenizer, name: Path
) -> list[Documents]:
    """Tokenize each entry of a corpus; the artefacts lie at `name` with the entry's number.

    Files are read whole. A source that is streamed is read as far as is needed: up to its budget and what is held out
    of it, or up to its share of the entries without one, which are read first.
    """

    def held_out(tokens: int) -> int:
        """Estimate how many tokens are held out of so many, and must be read in addition."""
        return min(int(tokens * validation.share) + 1, validation.max_tokens)

    tokenized: dict[int, Documents] = {}
    total = 0
    for i, entry in enumerate(corpus):
        if entry.share is None:
            limit = entry.tokens and entry.tokens + held_out(entry.tokens)
            tokenized[i] = _tokenize(name.with_name(f"{name.name}-{i}"), entry, limit, tokenizer)
            total += min(tokenized[i].record["tokens"] * entry.max_epochs, limit or sys.maxsize)
    shares = sum(entry.share or 0 for entry in corpus) + generated_share
    for i, entry in enumerate(corpus):
        if entry.share is not None:
            limit = int(entry.share * total / (1 - shares) * REPLAY_MARGIN) + held_out(total)
            tokenized[i] = _tokenize(name.with_name(f"{name.name}-{i}"), entry, limit, tokenizer)
    return [tokenized[i] for i in sorted(tokenized)]


def _tokenize(path: Path, entry: CorpusEntry, max_tokens: int | None, tokenizer: Tokenizer) -> Documents:
    return tokenize(path, text_of(entry, path, max_tokens), tokenizer)


def text_of(entry: CorpusEntry, path: Path, max_tokens: int | None = None) -> CorpusText:
    """Return the text of an entry; if its source cannot be reached, the content that was read into `path`."""
    source = entry.source
    recorded = recorded_inputs(path).get("text", {}).get("content")
    return CorpusText(entry.title, source, source.content(recorded), max_tokens if source.is_streamed else None)


class MeasuredText(Artefact):
    """The text under `evaluation.text`, and what the base generated in its place."""

    def path(self, language: str) -> Path:
        return self.folder / f"{language}.jsonl"


@step(MeasuredText)
def read_measured_text(
    folder: Path,
    files: Mapping[str, Files],
    generated: Mapping[str, GeneratedDocuments],
    text_field: str,
    split: Split | None,
) -> None:
    """`<language>.jsonl`."""
    for code, of_base in generated.items():
        write_texts(folder / f"{code}.jsonl", of_base.texts)
    for code, given in files.items():
        dropped = DroppedText()
        documents = list(read_documents(given.paths, text_field, dropped, split))
        warn_of_one_document(given.paths, split, len(documents))
        write_texts(folder / f"{code}.jsonl", documents)
        logger.info("%s: %d documents to measure on%s", code, len(documents), left_out(dropped))


def left_out(dropped: DroppedText) -> str:
    return f"; left out: {dropped}" if dropped else ""
