"""Steps that pack text into blocks of tokens: what trains, and what is held out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.cache import read_json, write_json
from lingraft.corpus.mix import Draw, MixComponent, mix
from lingraft.corpus.pack import write_blocks, write_text_blocks
from lingraft.corpus.tokenize import open_table
from lingraft.pipeline.decontaminate import Trainable
from lingraft.pipeline.documents import Documents
from lingraft.pipeline.split import Split
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import Tokenizer
from lingraft.recipe.text import CorpusEntry

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


class Blocks(Artefact):
    """Blocks of text to train on: `training.arrow`, and `mix.json`."""

    @property
    def table(self) -> Dataset:
        return open_table(self.folder / "training.arrow")

    @property
    def mix(self) -> dict[str, Any]:
        """`tokens` in all, with those to be generated; `blocks`; `entries`, one for each of the corpus."""
        mix: dict[str, Any] = read_json(self.folder / "mix.json")
        return mix


class HeldOutBlocks(Artefact):
    """Blocks of held-out text by language: for validation during training, and of the selection split."""

    def validation(self, language: str) -> Dataset:
        return open_table(self.folder / f"validation-{language}.arrow")

    def selection(self, language: str) -> Dataset:
        return open_table(self.folder / f"selection-{language}.arrow")


@dataclass(frozen=True)
class Budget:
    """The budget of one corpus entry: tokens or a share, and epochs."""

    title: str
    languages: tuple[str, ...]
    tokens: int | None
    share: float | None
    max_epochs: int

    @classmethod
    def of(cls, entry: CorpusEntry) -> Budget:
        return cls(entry.title, tuple(entry.languages), entry.tokens, entry.share, entry.max_epochs)


@step(Blocks)
def pack(
    folder: Path,
    documents: Sequence[Documents],
    trainable: Sequence[Trainable],
    budgets: Sequence[Budget],
    languages: Sequence[str],
    generated_share: float,
    max_length: int,
    seed: int,
) -> None:
    """Draw documents by budget and share, and pack them into blocks of `max_length` tokens, shuffled."""
    tables = [each.table for each in documents]
    lengths = [each.tokens for each in trainable]
    rows = [np.flatnonzero(length) for length in lengths]
    draws = mix(
        [
            MixComponent(
                f"corpus.{i}", budget.title, lengths[i][rows[i]], budget.tokens, budget.share, budget.max_epochs
            )
            for i, budget in enumerate(budgets)
        ],
        seed,
        generated_share,
    )
    draws = [Draw(rows[i][draw.documents], draw.tokens) for i, draw in enumerate(draws)]
    numbers = [[languages.index(code) for code in budget.languages] for budget in budgets]
    blocks = write_blocks(folder / "training.arrow", tables, draws, numbers, max_length, seed)
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
            }
        )
        shown = (i, budget.title, f"{draw.total:,}", f"{drawn:,}", 100 * share, f"{kept_out:,}")
        logger.info("corpus.%d %s: %s tokens of %s documents train, %.1f %% of all; %s documents kept out", *shown)
    write_json(folder / "mix.json", {"blocks": blocks, "tokens": total, "entries": entries})


@step(HeldOutBlocks)
def pack_held_out(
    folder: Path,
    split: Split,
    tokenizer: Tokenizer,
    languages: Sequence[str],
    num_validation: int,
    num_selection: int,
    max_length: int,
) -> None:
    """Pack held-out text of each language: at most so many blocks for validation and of the selection split."""
    loaded = tokenizer.load()
    for language in languages:
        for name, texts, most in (
            ("validation", split.measured(language), num_validation),
            ("selection", split.selection(language), num_selection),
        ):
            write_text_blocks(folder / f"{name}-{language}.arrow", texts, loaded, max_length, most)
