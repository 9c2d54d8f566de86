"""Blocks of tokens to train on, and their collation into batches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from lingraft.nn.chunked_cross_entropy import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset

TEACHER = ("teacher_tokens", "teacher_log_probs")
"""Fields of a self-generated block with the teacher's distribution: (T - 1) * K numbers each, token after token."""


@dataclass(frozen=True)
class TrainingText:
    """Blocks of tokens, with their languages, roles and loss weights."""

    blocks: Dataset
    languages: Sequence[str]
    """Language of each number in the blocks' `languages`."""
    learned: Collection[str]
    """The learned languages, which are new to the base."""
    validation: Mapping[str, Dataset]
    """Validation blocks by language."""
    written: Dataset | None = None
    """Self-generated blocks to mix in, perhaps with the base's distribution."""
    first_new: int | None = None
    """The first token that the base does not have."""
    weights: tuple[float, float] = (1.0, 1.0)
    """Loss weights of a token: in text, and in a block with a teacher."""
    selection: Dataset | None = None
    """Selection split for early stopping; it is excluded from evaluation."""


def mixed(text: TrainingText) -> Any:
    """All blocks to train on, as one dataset."""
    blocks = text.blocks.with_format("numpy")
    return blocks if text.written is None else ConcatDataset([blocks, text.written.with_format("numpy")])


def text_to_fit(text: TrainingText, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks (N, T) spread over the text and over self-generated text, at most `count` of each; which of their tokens
    are old, and which are new, (N, T). The first token of a block sees no text before it: it is never new.
    """
    tables = [text.blocks, *([text.written] if text.written is not None else [])]
    rows = []
    for table in tables:
        spread = np.linspace(0, len(table) - 1, min(count, len(table))).astype(int)
        rows += list(table.select_columns(["input_ids", "languages"]).with_format("numpy").select(spread))
    batch = collate(rows)
    is_learned = torch.tensor([code in text.learned for code in text.languages])
    is_old, is_new = origin(batch, is_learned)
    is_new[:, 0] = False
    return batch["input_ids"], is_old, is_new


def origin(batch: Mapping[str, Tensor], is_learned: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T) each: tokens of old languages and tokens of learned languages; padding is neither.

    `is_learned` (languages,) is of each number in `languages`.
    """
    is_token = batch["labels"] != IGNORED
    is_new = is_learned.to(is_token.device)[batch["languages"].long()]
    return is_token & ~is_new, is_token & is_new


def collate(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Blocks -> `input_ids`, `labels`, `languages`, each (B, T); short blocks are padded on the right.

    Blocks with a teacher come last; `taught`, where there are any, is the teacher's tokens and their ln p,
    (R, T - 1, K) each.
    """
    blocks = sorted(blocks, key=lambda block: TEACHER[0] in block)
    width = max(len(block["input_ids"]) for block in blocks)
    teachers = [[block[field].reshape(width - 1, -1) for field in TEACHER] for block in blocks if TEACHER[0] in block]

    def stack(field: str, padding: int) -> Tensor:
        rows = np.full((len(blocks), width), padding, dtype=np.int64)
        for row, block in zip(rows, blocks, strict=True):
            row[: len(block[field])] = block[field]
        return torch.from_numpy(rows)

    return {
        "input_ids": stack("input_ids", 0),
        "labels": stack("input_ids", IGNORED),
        "languages": stack("languages", 0),
        **({"taught": _teacher(teachers)} if teachers else {}),
    }


def _teacher(rows: Sequence[Sequence[Any]]) -> tuple[Tensor, Tensor]:
    """Tokens and their ln p, (R, T - 1, K) each."""
    tokens, log_probs = zip(*rows, strict=True)
    return torch.from_numpy(np.stack(tokens).astype(np.int64)), torch.from_numpy(np.stack(log_probs))
