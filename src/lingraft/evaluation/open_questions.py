"""Open questions: a model generates the answer, greedily, and it is compared with what is to be said.

    exact_match   the same words, whatever their case, punctuation at the ends and white space
    last_number   the last number in the answer is the number that is to be said
    chrf          chrF of all answers together, of sacrebleu

A text is continued up to the end of its first line. Where a task says `chat`, and the model has a chat template, the
question is asked in it, and the answer counts up to the end of the turn.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from lingraft.checkpoints.chat_template import around_question
from lingraft.errors import UserError
from lingraft.evaluation.chat_turns import context_of, prompt_of, turns_of
from lingraft.evaluation.own_task import OwnTaskSuite
from lingraft.evaluation.questions import OpenQuestion
from lingraft.evaluation.suite import Progress
from lingraft.evaluation.task_scores import Scores
from lingraft.nn.generate import GREEDILY, continued

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

logger = logging.getLogger(__name__)

BATCH = 16
"""Questions that are answered at once."""


def exact_match(generated: str, right: Sequence[str]) -> bool:
    """Whether a text says one of the right answers."""
    said = _plain(generated)
    return said in map(_plain, right) if said else generated.strip() in [answer.strip() for answer in right]


def last_number(generated: str, right: Sequence[str]) -> bool:
    """Whether the last number of a text is that of one of the right answers."""
    numbers = _numbers(generated)
    return bool(numbers) and numbers[-1] in [number for answer in right for number in _numbers(answer)[-1:]]


MATCHES = {"exact_match": exact_match, "last_number": last_number}


def _plain(text: str) -> str:
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    start, end = 0, len(words)
    while start < end and unicodedata.category(words[start])[0] in "PZ":
        start += 1
    while end > start and unicodedata.category(words[end - 1])[0] in "PZ":
        end -= 1
    return words[start:end]


def _numbers(text: str) -> list[Decimal]:
    """The numbers in a text, in digits of any script; commas, and their Arabic kin, part thousands."""
    digits = "".join(str(unicodedata.digit(letter)) if letter.isdigit() else letter for letter in text)
    found = re.findall(r"(?<![\w.])-?\d+(?:[,٬]\d{3})*(?:[.٫]\d+)?", digits.replace("−", "-"))
    return [Decimal(re.sub("[,٬]", "", number).replace("٫", ".")) for number in found]


@dataclass(frozen=True)
class OpenQuestions(OwnTaskSuite):
    """One task of open questions."""

    def measure(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Scores]:
        model.eval()
        measured = {}
        for code, given in self.task.questions.items():
            questions = [question for question in given if isinstance(question, OpenQuestion)]
            generated = self._answers(model, tokenizer, code)
            values = {
                metric: np.array([matches(text, q.answer) for text, q in zip(generated, questions, strict=True)], float)
                for metric, matches in MATCHES.items()
                if metric in self.metrics
            }
            pairs = [(question.answer[0].strip(), text) for question, text in zip(questions, generated, strict=True)]
            measured[code] = Scores(values, texts=pairs)
            logger.info("%s %s: %s", self.title, code, measured[code].shown)
        return measured

    def _answers(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, code: str) -> list[str]:
        """The answers to all questions of a language."""
        contexts, plain = self.task.contexts(code), tokenizer.tokenizer
        in_turns = self.task.chat and around_question(plain) is not None
        if in_turns:
            turns = turns_of(model, plain)
            rows, ends = [prompt_of(plain, turns, context) for context in contexts], turns.ends
        else:
            rows = [tokenizer.bos_ids + ids for ids in tokenizer.encode([context.rstrip(" ") for context in contexts])]
            ends = tokenizer.eos_ids or tokenizer.bos_ids
        room = context_of(model) - self.task.max_tokens
        if (longest := max(map(len, rows))) > room:
            raise UserError(
                f"task {self.title}: a question of {longest} tokens and an answer of {self.task.max_tokens} do not fit "
                f"the model's context of {context_of(model)}; give fewer 'shots', or a smaller 'max_tokens'"
            )
        progress, answers = Progress(f"{self.title} {code}"), list[str]()
        for first in range(0, len(rows), BATCH):
            for ids in continued(model, rows[first : first + BATCH], ends, self.task.max_tokens, GREEDILY):
                text = str(plain.decode(ids, skip_special_tokens=True)).strip()
                answers.append(text if in_turns else text.partition("\n")[0].strip())
            progress(len(answers) / len(rows))
        return answers
