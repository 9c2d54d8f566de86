"""The suites that models are measured on, in one list: a new suite is a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lingraft.errors import UserError
from lingraft.evaluation import ABILITIES, NUM_SAMPLES, NUM_SEQUENCES
from lingraft.evaluation.alignment import Alignment, SentencePairs
from lingraft.evaluation.bits_per_byte import BitsPerByte
from lingraft.evaluation.copying import Copying, draw_sequences
from lingraft.evaluation.harness import HarnessSuite
from lingraft.evaluation.multiple_choice import MultipleChoice
from lingraft.evaluation.open_questions import OpenQuestions
from lingraft.evaluation.questions import Tasks
from lingraft.evaluation.rule import InContextLearning, draw_lines
from lingraft.evaluation.samples import Continuations, draw_prompts
from lingraft.evaluation.suite import Suite
from lingraft.evaluation.task_scores import Ability
from lingraft.evaluation.words import FEWEST_WORDS, words_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer


def list_suites(
    texts: Mapping[str, Sequence[str]],
    tasks: Tasks,
    suites: Sequence[HarnessSuite] = (),
    num_samples: int = NUM_SAMPLES,
    num_sequences: int = NUM_SEQUENCES,
    pairs: Mapping[str, SentencePairs] | None = None,
) -> tuple[BitsPerByte, list[Suite[Any]]]:
    """Return the suite of text, and all others: one for each task of the user's and of lm-evaluation-harness,
    in-context copying and learning of words from the texts, and continuations of prompts from them.

    `texts` has the documents by language, `tasks` the questions by task and language, `suites` those of the harness,
    `pairs` sentences by language, each with the same in another one.
    """
    prompts = {code: draw_prompts(documents, num_samples) for code, documents in texts.items()}
    own = [OpenQuestions(title, task) if task.is_open else MultipleChoice(title, task) for title, task in tasks.items()]
    others: list[Suite[Any]] = [*own, *suites]
    abilities = list_abilities(texts, num_sequences, pairs)
    titles = [suite.title for suite in (*own, *suites, *abilities)]
    if twice := [title for title in titles if titles.count(title) > 1]:
        raise UserError(f"two tasks are called '{twice[0]}'; give one of them another name")
    return BitsPerByte(texts), [*others, *abilities, Continuations(prompts)]


def list_abilities(
    texts: Mapping[str, Sequence[str]],
    num_sequences: int = NUM_SEQUENCES,
    pairs: Mapping[str, SentencePairs] | None = None,
) -> list[Ability]:
    """Return the suites that need no questions: of languages whose texts have words enough, and of pairs."""
    words = {code: words_of(documents) for code, documents in texts.items()} if num_sequences else {}
    enough = {code: of for code, of in words.items() if len(of) >= FEWEST_WORDS}
    abilities: list[Ability] = []
    if enough:
        abilities.append(Copying({code: draw_sequences(of, num_sequences) for code, of in enough.items()}))
        abilities.append(InContextLearning({code: draw_lines(of, num_sequences) for code, of in enough.items()}))
    if pairs:
        abilities.append(Alignment(pairs))
    return abilities


def watched(
    abilities: Sequence[Ability], model: PreTrainedModel, tokenizer: DocumentTokenizer, length: int
) -> dict[str, float]:
    """Return the scores of a model in training by the keys of its log, on the first sequences of each ability."""
    found = {}
    for suite in abilities:
        for code, scores in suite.watched.scores(model, tokenizer, length).items():
            found[f"{ABILITIES[suite.title]}{code}"] = float(scores.values["acc"].mean())
    return found
