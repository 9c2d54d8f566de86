"""In-context copying: whether a model reads its context, in any language, without questions.

    BOS w_1 … w_n  newline  w_1 … w_n

The words are drawn at random from the measured text of a language, so that nothing but the context foretells their
order. What counts is the share of tokens of the second occurrence, all but its first, that the model predicts greedily.
Plain adaptation can lose this in its first steps, while perplexity hardly changes (arXiv 2506.00288).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import category

import numpy as np
import numpy.typing as npt
import torch

from lingraft.cache import fingerprint
from lingraft.evaluation import COPYING
from lingraft.evaluation.bits_per_byte import TOKENS_PER_BATCH, hidden_states
from lingraft.evaluation.task_scores import Scores, TaskSuite
from lingraft.nn.chunked_cross_entropy import top_k_log_probs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

logger = logging.getLogger(__name__)

WORDS = 20
"""In a sequence, of different words."""
LONGEST = 12
"""Characters of a word at most; longer ones, as of scripts without spaces, are parted."""

Shares = npt.NDArray[np.float64]
"""Of each sequence, the share of tokens that are predicted (sequences,)."""


def draw_sequences(documents: Sequence[str], count: int) -> list[str]:
    """`count` sequences of words of documents, with spaces between them; none where there are too few words."""
    parts = dict.fromkeys(part for document in documents for part in document.split())
    words = sorted(
        {
            part[start : start + LONGEST]
            for part in parts
            for start in range(0, len(part), LONGEST)
            if all(category(letter)[0] in "LM" for letter in part[start : start + LONGEST])
        }
    )
    if len(words) < WORDS:
        return []
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(words, WORDS, replace=False)) for _ in range(count)]


@torch.inference_mode()
def copied(model: PreTrainedModel, tokenizer: DocumentTokenizer, sequences: Sequence[str], max_length: int) -> Shares:
    """The share of tokens of each sequence that are predicted where it stands a second time.

    A sequence is cut so that it stands twice in `max_length` tokens.
    """
    model.eval()
    (between,) = tokenizer.encode(["\n"])
    longest = max(2, (max_length - len(tokenizer.bos_ids) - len(between)) // 2)
    once = [ids[:longest] for ids in tokenizer.encode(sequences)]
    rows = [[*tokenizer.bos_ids, *ids, *between, *ids] for ids in once]
    size = max(1, TOKENS_PER_BATCH // max(map(len, rows)))
    shares: list[float] = []
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        input_ids, hidden = hidden_states(model, batch)
        for i, (row, ids) in enumerate(zip(batch, once[first : first + size], strict=True)):
            start = len(row) - len(ids)
            if len(ids) < 2:  # a tokenizer that drops them
                shares.append(0.0)
                continue
            best, _ = top_k_log_probs(model, hidden[i, start : len(row) - 1], 1)  # (tokens, 1)
            shares.append(float((best[:, 0] == input_ids[i, start + 1 : len(row)]).float().mean()))
    return np.array(shares)


@dataclass(frozen=True)
class Copying(TaskSuite):
    """Sequences of words by language; its results are those of a task that nobody has to give."""

    sequences: Mapping[str, Sequence[str]]
    name = f"tasks.{COPYING}"
    title = COPYING
    metrics = ("acc",)

    @property
    def fingerprint(self) -> dict[str, str]:
        return {code: fingerprint(list(sequences)) for code, sequences in self.sequences.items()}

    def measure(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Scores]:
        measured = {
            code: Scores({"acc": copied(model, tokenizer, sequences, max_length)})
            for code, sequences in self.sequences.items()
        }
        logger.info("%s: %s", COPYING, "  ".join(f"{code} {scores.shown}" for code, scores in measured.items()))
        return measured
