"""The suites that models are measured on, in one list: a new suite is a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lingraft.evaluation import NUM_SAMPLES
from lingraft.evaluation.bits_per_byte import BitsPerByte
from lingraft.evaluation.multiple_choice import MultipleChoice, Tasks
from lingraft.evaluation.samples import Continuations, draw_prompts
from lingraft.evaluation.suite import Suite


def list_suites(
    texts: Mapping[str, Sequence[str]], tasks: Tasks, num_samples: int = NUM_SAMPLES
) -> tuple[BitsPerByte, list[Suite[Any]]]:
    """Return the suite of text, and all others: a suite for each task, and continuations of prompts from the texts.

    `texts` has the documents by language, `tasks` the questions by task and language.
    """
    prompts = {code: draw_prompts(documents, num_samples) for code, documents in texts.items()}
    others: list[Suite[Any]] = [MultipleChoice(task, by_language) for task, by_language in tasks.items()]
    return BitsPerByte(texts), [*others, Continuations(prompts)]
