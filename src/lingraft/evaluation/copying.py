"""In-context copying: whether a model reads its context, in any language, without questions.

    BOS w_1 … w_n  newline  w_1 … w_n

The words are drawn at random from the measured text of a language, so that nothing but the context foretells their
order. What counts is the share of tokens of the second occurrence, all but its first, that the model predicts greedily.
Plain adaptation can lose this in its first steps, while perplexity hardly changes (arXiv 2506.00288).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lingraft.cache import fingerprint
from lingraft.evaluation import COPYING
from lingraft.evaluation.predicted import predicted
from lingraft.evaluation.task_scores import Ability, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

WORDS = 20
"""In a sequence, of different words."""


def draw_sequences(words: Sequence[str], count: int) -> list[str]:
    """`count` sequences of different words, with spaces between them."""
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(words, WORDS, replace=False)) for _ in range(count)]


def copied(
    model: PreTrainedModel, tokenizer: DocumentTokenizer, sequences: Sequence[str], max_length: int
) -> npt.NDArray[np.float64]:
    """The share of tokens of each sequence that are predicted where it stands a second time, (sequences,).

    A sequence is cut so that it stands twice in `max_length` tokens.
    """
    (between,) = tokenizer.encode(["\n"])
    longest = max(2, (max_length - len(tokenizer.bos_ids) - len(between)) // 2)
    once = [ids[:longest] for ids in tokenizer.encode(sequences)]
    rows = [[*tokenizer.bos_ids, *ids, *between, *ids] for ids in once]
    spans = [[(len(row) - len(ids) + 1, len(row))] for row, ids in zip(rows, once, strict=True)]
    return np.array([share for (share,) in predicted(model, rows, spans)])


@dataclass(frozen=True)
class Copying(Ability):
    """Sequences of words by language; its results are those of a task that nobody has to give."""

    name = f"tasks.{COPYING}"
    title = COPYING
    metrics = ("acc",)

    @property
    def fingerprint(self) -> dict[str, str]:
        return {code: fingerprint(list(sequences)) for code, sequences in self.sequences.items()}

    def scores(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Scores]:
        return {
            code: Scores({"acc": copied(model, tokenizer, sequences, max_length)})
            for code, sequences in self.sequences.items()
        }
