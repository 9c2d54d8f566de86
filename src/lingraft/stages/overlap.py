"""Stage of overlap: which documents of the corpora share text with what is measured, and so do not train."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.artefacts import read_json, stage_fingerprint, write_json
from lingraft.checkpoints.read import read_tokenizer
from lingraft.corpus import Indices
from lingraft.corpus.overlap import Index, Match
from lingraft.corpus.read import DroppedText, find_files, placed_rows
from lingraft.corpus.tokenize import bos_ids, column, encode, open_table, read_texts_of
from lingraft.recipe import CorpusEntry, Recipe
from lingraft.stages import Tables, one_after_another
from lingraft.stages.held_out import heldout_fingerprint

logger = logging.getLogger(__name__)

MUCH = 0.1
"""Of the documents of an entry: so many that share a text are seldom a leak, more often a text that all have."""


def leave_out_overlap(recipe: Recipe, model: Path, tables: Tables, heldout: Path) -> None:
    """Beside each table: how much of each document may train, and what was left out.

    A document that was drawn to be held out does not train, and of one that was cut the beginning does. One that
    shares text with what is measured does not, and is counted.
    """
    for name, stage in recipe.expanded.items():
        for i, (entry, table) in enumerate(zip(stage.corpus, tables[name], strict=True)):
            inputs = {"corpus": stage_fingerprint(table), "heldout": heldout_fingerprint(heldout)}
            where = f"stages.{name}.corpus.{i}" if name else f"corpus.{i}"
            make = partial(_leave_out, where, entry, model, table, heldout)
            one_after_another(overlap_of(table), inputs, make)


def overlap_of(table: Path) -> Path:
    """Where `leave_out_overlap` writes what it found in a table."""
    return table.with_name(f"{table.name}-overlap")


def trainable_tokens(table: Path) -> Indices:
    """(documents,): how many tokens of each may train, from its beginning on."""
    return np.asarray(np.load(overlap_of(table) / "tokens.npy"))


def trainable_text(table: Path) -> Callable[[int], str]:
    """A function from the number of a document that may train to the part of it that may."""
    documents = open_table(table / "documents.arrow")
    cut = read_json(overlap_of(table) / "overlap.json")["cut"]
    return lambda row: str(documents[row]["text"])[: cut.get(str(row))]


def read_overlap(table: Path) -> dict[str, Any]:
    """What results and reports say of a corpus entry."""
    overlap: dict[str, Any] = read_json(overlap_of(table) / "overlap.json")["overlap"]
    return overlap


def _leave_out(where: str, entry: CorpusEntry, model: Path, path: Path, heldout: Path, folder: Path) -> None:
    table = open_table(path / "documents.arrow")
    tokens = column(table, "num_tokens").copy()
    drawn = read_json(heldout / "held-out.json").get(entry.language, {"digests": [], "cut": {}, "measured": False})
    digests = column(table, "digest") if entry.language else np.zeros(len(table), dtype=np.int64)
    is_drawn = np.isin(digests, np.array(drawn["digests"], dtype=np.int64))
    tokens[is_drawn] = 0
    cut: dict[int, int] = {}
    for digest, characters in drawn["cut"].items():
        for row in np.flatnonzero(digests == int(digest)).tolist():
            cut[row] = characters
            tokens[row] = _tokens_before(model, table[row], characters)
    is_measured = is_drawn & drawn["measured"]  # shares text with itself

    def texts() -> Iterator[Sequence[str]]:
        for row, of in enumerate(read_texts_of(table)):
            yield [] if is_measured[row] else [text[: cut.get(row)] for text in of]

    found = {row: match for row, match in enumerate(Index.load(heldout).matches(texts())) if match}
    tokens[list(found)] = 0
    place = _place(entry, min(found)) if found else ""
    record = overlap_record(found.values(), len(table), place)
    say_overlap(f"{where} {entry.title}", "documents", record)
    np.save(folder / "tokens.npy", tokens)
    write_json(folder / "overlap.json", {"overlap": record, "held_out": int(is_drawn.sum()), "cut": cut})


def _tokens_before(model: Path, document: Mapping[str, Any], characters: int) -> int:
    """The tokens of a document that are those of its beginning alone."""
    tokenizer = read_tokenizer(model)
    alone = np.array(bos_ids(tokenizer) + encode(tokenizer, [document["text"][:characters]])[0])
    whole = np.array(document["input_ids"])[: len(alone)]
    differ = np.flatnonzero(alone[: len(whole)] != whole)
    return int(differ[0]) if len(differ) else len(whole)


def _place(entry: CorpusEntry, row: int) -> str:
    """Where a document stands: file and line, or its number among the usable ones of a dataset."""
    number = row // 2 if entry.parallel else row
    if entry.files is None:
        return f"{entry.hub}, document {number + 1}"
    rows = placed_rows(find_files(*entry.files), entry.fields, DroppedText(), entry.split)
    place, _ = next(islice(rows, number, None))
    return Path(place).name


def overlap_record(found: Iterable[Match], documents: int, place: str) -> dict[str, Any]:
    """How many documents share text with what is measured, by how and with what, and the first of them."""
    matches = list(found)
    first = {"place": place, **matches[0]._asdict()} if matches else None
    return {
        "documents": documents,
        "left_out": len(matches),
        "kinds": Counter(match.kind for match in matches),
        "sources": Counter(match.source for match in matches),
        **({"first": first} if first else {}),
    }


def say_overlap(what: str, unit: str, record: Mapping[str, Any]) -> None:
    """A log line where something was left out; a warning where that is much."""
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
