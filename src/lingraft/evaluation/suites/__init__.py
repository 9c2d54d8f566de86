"""The suites that models are measured on, in one list: a new suite is a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lingraft.evaluation import NUM_SAMPLES, NUM_SEQUENCES
from lingraft.evaluation.bits_per_byte import BitsPerByte
from lingraft.evaluation.copying import Copying, draw_sequences
from lingraft.evaluation.harness import HarnessSuite
from lingraft.evaluation.multiple_choice import MultipleChoice
from lingraft.evaluation.open_questions import OpenQuestions
from lingraft.evaluation.questions import Tasks
from lingraft.evaluation.samples import Continuations, draw_prompts
from lingraft.evaluation.suite import Suite


def list_suites(
    texts: Mapping[str, Sequence[str]],
    tasks: Tasks,
    suites: Sequence[HarnessSuite] = (),
    num_samples: int = NUM_SAMPLES,
    num_sequences: int = NUM_SEQUENCES,
) -> tuple[BitsPerByte, list[Suite[Any]]]:
    """Return the suite of text, and all others: one for each task of the user's and of lm-evaluation-harness,
    in-context copying of words from the texts, and continuations of prompts from them.

    `texts` has the documents by language, `tasks` the questions by task and language, `suites` those of the harness.
    """
    prompts = {code: draw_prompts(documents, num_samples) for code, documents in texts.items()}
    own = [OpenQuestions(title, task) if task.is_open else MultipleChoice(title, task) for title, task in tasks.items()]
    others: list[Suite[Any]] = [*own, *suites]
    sequences = {code: draw_sequences(documents, num_sequences) for code, documents in texts.items()}
    copying = Copying({code: drawn for code, drawn in sequences.items() if drawn})
    return BitsPerByte(texts), [*others, *([copying] if copying.sequences else []), Continuations(prompts)]
