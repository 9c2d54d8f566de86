"""In-context learning: whether a model takes a rule from examples, in any language, without questions.

    BOS  u v w = w  newline  x y z = z  newline  …

Each line has three random words of the measured text of a language, and the rule is that the last one comes again. No
line foretells the words of the next, so only the rule helps. What counts is the share of the answer's tokens that the
model predicts greedily, by the number of examples before; the score is its mean over the second half of the lines.
In-context learning can be lost in the first steps of adaptation, while perplexity hardly changes (arXiv 2506.00288).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lingraft.cache import fingerprint
from lingraft.evaluation import RULE
from lingraft.evaluation.predicted import Span, predicted
from lingraft.evaluation.suite import Roles
from lingraft.evaluation.task_scores import Ability, Scores
from lingraft.schema import ByExamples

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

LINES = 16
"""In a sequence, where the context holds them."""
WORDS = 3
"""In a line, before the answer."""


def draw_lines(words: Sequence[str], count: int) -> list[list[str]]:
    """`count` sequences of lines, each of different words with spaces between them; the last is the answer."""
    draw = np.random.default_rng(1)
    return [[" ".join(draw.choice(words, WORDS, replace=False)) for _ in range(LINES)] for _ in range(count)]


def answered(
    model: PreTrainedModel, tokenizer: DocumentTokenizer, sequences: Sequence[Sequence[str]], max_length: int
) -> npt.NDArray[np.float64]:
    """The share of each answer's tokens that are predicted, (sequences, lines): as many lines as `max_length` holds."""
    rows, spans = list[list[int]](), list[list[Span]]()
    for lines in sequences:
        texts = [(f"{line} =", f" {line.rpartition(' ')[2]}") for line in lines]
        asked = tokenizer.encode([question for question, _ in texts])
        answers = tokenizer.encode([answer for _, answer in texts])
        (end,) = tokenizer.encode(["\n"])
        row, of_row = list(tokenizer.bos_ids), list[Span]()
        for question, said in zip(asked, answers, strict=True):
            start = len(row) + len(question)
            if start + len(said) > max_length:
                break
            row += [*question, *said, *end]
            of_row.append((start, start + len(said)))
        rows.append(row[:max_length])
        spans.append(of_row)
    fewest = min(map(len, spans))
    if fewest < 2:
        return np.zeros((len(sequences), 0))
    return np.array(predicted(model, rows, [of[:fewest] for of in spans]))


@dataclass(frozen=True)
class InContextLearning(Ability):
    """Sequences of lines by language; its results are those of a task that nobody has to give."""

    name = f"tasks.{RULE}"
    title = RULE
    metrics = ("acc",)

    @property
    def fingerprint(self) -> dict[str, str]:
        return {code: fingerprint([list(lines) for lines in sequences]) for code, sequences in self.sequences.items()}

    def scores(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Scores]:
        measured = {}
        for code, sequences in self.sequences.items():
            shares = answered(model, tokenizer, sequences, max_length)
            if shares.shape[1]:
                second_half = shares[:, shares.shape[1] // 2 :].mean(axis=1)
                measured[code] = Scores({"acc": second_half}, by_examples=shares.mean(axis=0).tolist())
        return measured

    def compare(self, after: Mapping[str, Scores], before: Mapping[str, Scores] | None, roles: Roles) -> dict[str, Any]:
        if before is not None:  # new tokens may let more lines fit a short context; then the scores are of other lines
            lines = {code: len(scores.by_examples) for code, scores in before.items()}
            after = {code: scores for code, scores in after.items() if lines.get(code) == len(scores.by_examples)}
            before = {code: before[code] for code in after}
        compared = super().compare(after, before, roles)
        for code, language in compared["tasks"][RULE].languages.items():
            earlier = {"before": list(before[code].by_examples)} if before else {}
            language.by_examples = ByExamples(**earlier, after=list(after[code].by_examples))
        return compared
