"""Old and new text for a method that looks at text before it trains."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

import torch

from lingraft.methods import Fit, TextToFit
from lingraft.penalties import PenaltyContext
from lingraft.pipeline.self_generated import SELF_GENERATED
from lingraft.training.batches import TrainingText, text_to_fit

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

MOST_PER_UNIT = 100
"""Tokens of old and of new text that a method fits what it adds on, for each unit of the model's width; no more than
there are of old text."""
GENERATED_PER_UNIT = 40
"""Of old text that is generated for this alone."""


def fit_on_text(fit: Fit, text: TrainingText, context: PenaltyContext) -> None:
    """Let the method set what depends on text, where training computes and as it computes.

    Old text is self-generated replay; where none trains, the base generates documents for this alone.
    """
    started, width = time.monotonic(), context.adaptation.plain.get_decoder().config.hidden_size
    if text.written is None:
        count = ceil(GENERATED_PER_UNIT * width / context.max_length)
        text = replace(text, written=_generated(context, count, len(text.languages)))
        text = replace(text, languages=[*text.languages, SELF_GENERATED])
    assert text.written is not None
    count = min(ceil(MOST_PER_UNIT * width / context.max_length), len(text.written))
    tokenizer = context.tokenizer.tokenizer
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    special = sorted(added.union(tokenizer.all_special_ids))
    blocks, is_old, is_new = (tensor.to(context.device) for tensor in text_to_fit(text, count))
    with context.evaluating(), context.precision():
        fit(TextToFit(blocks, is_old, is_new, special))
    shown = (f"{int(is_old.sum()):,}", f"{int(is_new.sum()):,}", time.monotonic() - started)
    logger.info("the method was fitted on %s tokens of old and %s of new text, in %.0f s", *shown)


def _generated(context: PenaltyContext, count: int, language: int) -> Dataset:
    """Blocks of documents that the base generates."""
    from datasets import Dataset

    ids = context.self_generated(count, 0).cpu()
    return Dataset.from_dict({"input_ids": ids.tolist(), "languages": torch.full_like(ids, language).tolist()})
