"""The step that packs what trains into blocks, and what is held out into blocks to validate on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.cache import read_json, write_json
from lingraft.checkpoints.read import read_tokenizer
from lingraft.corpus.mix import Draw, Source, mix
from lingraft.corpus.pack import write_blocks, write_text_blocks
from lingraft.corpus.read import read_records
from lingraft.corpus.tokenize import open_table
from lingraft.pipeline.decontaminate import Trainable
from lingraft.pipeline.documents import Documents
from lingraft.pipeline.split import Split
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import Tokenizer
from lingraft.recipe.text import CorpusEntry, Languages, Validation
from lingraft.training.schedule import MOST_BLOCKS, SCHEDULE_ARGUMENTS, num_steps, validation_blocks

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


class TrainingData(Artefact):
    """What a stage trains on: blocks of text (`training.arrow`) or instructions (`training.jsonl`); `mix.json`.

    Beside it blocks of held-out text: `validation-<language>.arrow`, looked at while it trains, and
    `selection-<language>.arrow`, with which early stopping and scale selection decide.
    """

    @property
    def blocks(self) -> Dataset:
        return open_table(self.folder / "training.arrow")

    def examples(self, name: str = "training") -> list[dict[str, Any]]:
        """Instructions: those that train, or `validation-<language>`."""
        return [record for _, record in read_records([self.folder / f"{name}.jsonl"])]

    def validation(self, language: str) -> Dataset:
        return open_table(self.folder / f"validation-{language}.arrow")

    def selection(self, language: str) -> Dataset:
        return open_table(self.folder / f"selection-{language}.arrow")

    @property
    def mix(self) -> dict[str, Any]:
        """`tokens` in all, with those to be generated; `entries`, one of each of the corpus or the instructions."""
        mix: dict[str, Any] = read_json(self.folder / "mix.json")
        return mix

    @property
    def tokens_of_text(self) -> int:
        return sum(entry["tokens"] for entry in self.mix["entries"])


@dataclass(frozen=True)
class Budget:
    """How much of a table of documents trains."""

    title: str
    languages: tuple[str, ...]
    tokens: int | None
    share: float | None
    max_epochs: int

    @classmethod
    def of(cls, entry: CorpusEntry) -> Budget:
        return cls(entry.title, tuple(entry.languages), entry.tokens, entry.share, entry.max_epochs)


@step(TrainingData)
def pack(
    folder: Path,
    documents: Sequence[Documents],
    trainable: Sequence[Trainable],
    budgets: Sequence[Budget],
    split: Split,
    tokenizer: Tokenizer,
    languages: Languages,
    validation: Validation,
    schedule: Mapping[str, Any],
    generated_share: float,
    max_length: int,
    seed: int,
) -> None:
    """Draw documents by budget and share, and pack them into blocks of `max_length` tokens, shuffled."""
    tables = [of.table for of in documents]
    lengths = [of.tokens for of in trainable]
    rows = [np.flatnonzero(of) for of in lengths]
    draws = mix(
        [
            Source(f"corpus.{i}", of.title, lengths[i][rows[i]], of.tokens, of.share, of.max_epochs)
            for i, of in enumerate(budgets)
        ],
        seed,
        generated_share,
    )
    draws = [Draw(rows[i][draw.documents], draw.tokens) for i, draw in enumerate(draws)]
    codes = list(languages.roles)
    numbers = [[codes.index(code) for code in of.languages] for of in budgets]
    blocks = write_blocks(folder / "training.arrow", tables, draws, numbers, max_length, seed)
    num_blocks = validation.blocks
    if num_blocks is None:
        steps = num_steps(schedule, ceil(blocks / (1 - generated_share)))
        num_blocks = validation_blocks(schedule, steps, len(codes))
    write_held_out_blocks(folder, split, tokenizer, languages, validation, max_length, num_blocks)
    total = round(sum(draw.total for draw in draws) / (1 - generated_share))
    entries = []
    for i, (budget, draw) in enumerate(zip(budgets, draws, strict=True)):
        drawn, kept_out, share = len(draw.documents), len(tables[i]) - len(rows[i]), draw.total / total
        entries.append(
            {
                "language": budget.title,
                "documents": drawn,
                "tokens": draw.total,
                "share": share,
                "kept_out": kept_out,
                "overlap": trainable[i].overlap,
            }
        )
        shown = (i, budget.title, f"{draw.total:,}", f"{drawn:,}", 100 * share, f"{kept_out:,}")
        logger.info("corpus.%d %s: %s tokens of %s documents train, %.1f %% of all; %s documents kept out", *shown)
    write_json(folder / "mix.json", {"blocks": blocks, "tokens": total, "entries": entries})


def schedule_of(training: Mapping[str, Any], validation: Validation) -> dict[str, Any]:
    """What the number of blocks to validate on follows from, where the recipe does not say it."""
    if validation.blocks is not None:
        return {}
    return {name: training[name] for name in SCHEDULE_ARGUMENTS if name in training}


def write_held_out_blocks(
    folder: Path,
    split: Split,
    tokenizer: Tokenizer,
    languages: Languages,
    validation: Validation,
    max_length: int,
    num_blocks: int,
) -> None:
    """`num_blocks` of each language to validate on, and blocks to decide with."""
    loaded = read_tokenizer(tokenizer.folder)
    for language in languages.roles:
        for name, texts, most in (
            ("validation", split.measured(language), num_blocks),
            ("selection", split.selection(language), validation.blocks or MOST_BLOCKS),
        ):
            write_text_blocks(folder / f"{name}-{language}.arrow", texts, loaded, max_length, most)
