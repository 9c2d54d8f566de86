"""Questions with options, answered by likelihood: knowledge, comprehension, translation.

    acc:       argmax over options of  ln p(context + option)
    acc_norm:  argmax over options of  (ln p(context + option) - ln p(context)) / bytes(option)

All options share the context, so its likelihood cancels in the first, and no token boundary between context and
option is needed. The second is for options of different lengths; there the tokens of the context alone must begin
those of the whole, as they do where an option begins with a space.

Learning and forgetting are in points of accuracy: after - before over learned languages, before - after over
retained ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lingraft.errors import CorpusError
from lingraft.evaluation.bits_per_byte import score
from lingraft.evaluation.own_task import OwnTaskSuite
from lingraft.evaluation.questions import Question
from lingraft.evaluation.suite import Progress
from lingraft.evaluation.task_scores import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

logger = logging.getLogger(__name__)


def answer(
    model: PreTrainedModel,
    tokenizer: DocumentTokenizer,
    questions: Sequence[Question],
    max_length: int,
    contexts: Sequence[str] | None = None,
    metrics: Sequence[str] = ("acc",),
    progress: Callable[[float], None] = lambda share: None,
) -> Scores:
    """Answer questions by likelihood; of equally likely options, the first.

    `contexts` stand in place of the questions' own: the same, with worked examples before them. A question without a
    context is scored after EOS where documents have no BOS, as lm-evaluation-harness does.

    Raises:
        CorpusError: a question without a context, where documents have neither.
    """
    before = [question.context for question in questions] if contexts is None else contexts
    counts = [len(question.choices) for question in questions]
    texts = [context + option for context, q in zip(before, questions, strict=True) for option in q.choices]
    is_bare = [not context for context, count in zip(before, counts, strict=True) for _ in range(count)]
    nats = _costs(model, tokenizer, texts, is_bare, max_length, progress)  # (options of all questions,)
    by_question = np.split(nats, np.cumsum(counts)[:-1])
    right = [question.answer for question in questions]
    values = {"acc": _share(by_question, right)}
    if "acc_norm" in metrics:
        some = [i for i, context in enumerate(before) if context]
        of_context = np.zeros(len(before))
        of_context[some] = score(model, tokenizer, [before[i] for i in some], max_length).nats if some else 0
        sizes = [np.array([max(1, len(option.encode())) for option in question.choices]) for question in questions]
        per_byte = [(costs - own) / size for costs, own, size in zip(by_question, of_context, sizes, strict=True)]
        values["acc_norm"] = _share(per_byte, right)
    return Scores({metric: values[metric] for metric in metrics}, float(np.mean([1 / count for count in counts])))


def _costs(
    model: PreTrainedModel,
    tokenizer: DocumentTokenizer,
    texts: Sequence[str],
    is_bare: Sequence[bool],
    max_length: int,
    progress: Callable[[float], None],
) -> npt.NDArray[np.float64]:
    """-ln p of each text, (texts,); a bare option comes after EOS where documents have no BOS."""
    if tokenizer.bos is not None or not any(is_bare):
        return score(model, tokenizer, texts, max_length, progress).nats
    if tokenizer.eos is None:
        raise CorpusError(
            f"the question with the option '{texts[is_bare.index(True)]}' has no context, and documents of the model "
            "neither BOS nor EOS to put in its place: the first token of an option cannot be scored; give a context"
        )
    nats, bare = np.zeros(len(texts)), np.array(is_bare)
    for some, of in ((bare, replace(tokenizer, bos=tokenizer.eos)), (~bare, tokenizer)):
        chosen = [text for text, is_one in zip(texts, some, strict=True) if is_one]
        if chosen:
            nats[some] = score(model, of, chosen, max_length, progress).nats
    return nats


def _share(costs: Sequence[npt.NDArray[np.float64]], right: Sequence[int]) -> npt.NDArray[np.float64]:
    return np.array([of.argmin() == answer for of, answer in zip(costs, right, strict=True)], dtype=float)


@dataclass(frozen=True)
class MultipleChoice(OwnTaskSuite):
    """One task of questions with options."""

    def measure(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Scores]:
        measured = {}
        for code, given in self.task.questions.items():
            questions = [question for question in given if isinstance(question, Question)]
            contexts, progress = self.task.contexts(code), Progress(f"{self.title} {code}")
            measured[code] = answer(model, tokenizer, questions, max_length, contexts, self.metrics, progress)
        shown = "  ".join(f"{code} {scores.shown}" for code, scores in measured.items())
        logger.info("%s: %s", self.title, shown)
        return measured
