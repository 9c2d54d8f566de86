"""The step that excludes documents from training that share text with what is measured."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.cache import json_text, read_json, write_json
from lingraft.corpus.indices import Indices
from lingraft.corpus.overlap import Match
from lingraft.corpus.tokenize import column, read_texts_of
from lingraft.pipeline.documents import CorpusText, Documents
from lingraft.pipeline.split import Split
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import Tokenizer

logger = logging.getLogger(__name__)

MUCH = 0.1
"""Of the documents of an entry: so many that share a text are seldom a leak, more often a text that all have."""


class Trainable(Artefact):
    """The number of tokens of each document that may train."""

    @property
    def fingerprint(self) -> str:
        """Changes only when what may train changes, so that other measured text does not cause a new training."""
        cut = read_json(self.folder / "overlap.json")["cut"]
        return hashlib.sha256(self.tokens.tobytes() + json_text(cut).encode()).hexdigest()[:16]

    @property
    def tokens(self) -> Indices:
        """(documents,): the number of tokens of each that may train, counted from its start."""
        return np.asarray(np.load(self.folder / "tokens.npy"))

    @property
    def overlap(self) -> dict[str, Any]:
        """The documents that share text with what is measured, as in `schema.Overlap`."""
        overlap: dict[str, Any] = read_json(self.folder / "overlap.json")["overlap"]
        return overlap

    def text_of(self, documents: Documents) -> Callable[[int], str]:
        """Return a function from the number of a document to the part of its text that may train."""
        table, cut = documents.table, read_json(self.folder / "overlap.json")["cut"]
        return lambda row: str(table[row]["text"])[: cut.get(str(row))]


@step(Trainable, unkeyed=("place",))
def decontaminate(
    folder: Path,
    documents: Documents,
    text: CorpusText,
    language: str | None,
    split: Split,
    tokenizer: Tokenizer,
    place: str,
) -> None:
    """`tokens.npy`, `overlap.json`: how much of each document may train, and what was left out.

    A document that was held out does not train, and of one that was cut the beginning does. One that shares text
    with what is measured does not, and is counted. `language` is None for pairs, `place` where the recipe has it.
    """
    table = documents.table
    tokens = column(table, "num_tokens").copy()
    drawn = split.drawn(language)
    digests = column(table, "digest") if language else np.zeros(len(table), dtype=np.int64)
    is_drawn = np.isin(digests, np.array(drawn["digests"], dtype=np.int64))
    tokens[is_drawn] = 0
    cut: dict[int, int] = {}
    for digest, characters in drawn["cut"].items():
        for row in np.flatnonzero(digests == int(digest)).tolist():
            cut[row] = characters
            tokens[row] = _tokens_before(tokenizer, table[row], characters)
    is_measured = is_drawn & drawn["measured"]  # shares text with itself

    def texts() -> Iterator[Sequence[str]]:
        for row, of in enumerate(read_texts_of(table)):
            yield [] if is_measured[row] else [one[: cut.get(row)] for one in of]

    found = {row: match for row, match in enumerate(split.index.matches(texts())) if match}
    tokens[list(found)] = 0
    rows_per_document = 2 if text.source.pair else 1
    first = text.source.place(min(found) // rows_per_document) if found else ""
    record = overlap_record(found.values(), len(table), first)
    log_overlap(f"{place} {text.title}", "documents", record)
    np.save(folder / "tokens.npy", tokens)
    write_json(folder / "overlap.json", {"overlap": record, "held_out": int(is_drawn.sum()), "cut": cut})


def _tokens_before(tokenizer: Tokenizer, document: Mapping[str, Any], characters: int) -> int:
    """Count the tokens of a document that belong to its first characters alone."""
    loaded = tokenizer.load()
    alone = np.array(loaded.bos_ids + loaded.encode([document["text"][:characters]])[0])
    whole = np.array(document["input_ids"])[: len(alone)]
    differ = np.flatnonzero(alone[: len(whole)] != whole)
    return int(differ[0]) if len(differ) else len(whole)


def overlap_record(found: Iterable[Match], documents: int, place: str) -> dict[str, Any]:
    """Count the documents that share text with what is measured, by kind and source, and describe the first."""
    matches = list(found)
    first = {"place": place, **matches[0]._asdict()} if matches else None
    return {
        "documents": documents,
        "left_out": len(matches),
        "kinds": Counter(match.kind for match in matches),
        "sources": Counter(match.source for match in matches),
        **({"first": first} if first else {}),
    }


def log_overlap(what: str, unit: str, record: Mapping[str, Any]) -> None:
    """Log how many documents were left out; warn where that is a large share."""
    count, documents, first = record["left_out"], record["documents"], record.get("first")
    if not first:
        return
    kinds = ", ".join(f"{number:,} by {kind}" for kind, number in record["kinds"].items())
    logger.info(
        "%s: %s of %s %s share text with what is measured and do not train (%s); first: %s, '%s', as in %s",
        *(what, f"{count:,}", f"{documents:,}", unit, kinds, first["place"], first["passage"], first["source"]),
    )
    parts = count - record["kinds"].get("document", 0)
    if parts > MUCH * documents:
        logger.warning(
            "%s: %.0f %% of the %s share a passage with what is measured; where it stands in many of them, as a "
            "licence or a menu does, remove it from the corpus and from what is measured",
            *(what, 100 * parts / documents, unit),
        )
