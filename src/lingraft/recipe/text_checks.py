"""Check that the languages, corpora and instructions of a recipe fit each other."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from lingraft.errors import UserError
from lingraft.evaluation.task_suites import check_suites
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stage import Stage
from lingraft.recipe.text import Languages


def language_problems(recipe: Recipe) -> Iterator[str]:
    languages = recipe.languages
    named = [*languages.learn, *languages.retain, *languages.observe]
    for code in sorted({code for code in named if named.count(code) > 1}):
        yield f"languages: {code} is named more than once; a language has one role"
    for code in [*languages.retained, *languages.observe]:
        if code not in recipe.evaluation.given:
            role = languages.roles[code]
            yield (
                f"evaluation.text.{code}: is missing; {code} is under languages.{role} and is measured on text "
                f"of its own: add 'evaluation: {{text: {{{code}: FILE}}}}', or 'self_generated: {code}' for text that "
                "the base generates, or remove the language"
            )
    for code in recipe.evaluation.given:
        if code not in languages.roles:
            place = f"text.{code}" if code in recipe.evaluation.text else "self_generated"
            yield f"evaluation.{place}: {code} has no role; add it under languages"
    for task, given in recipe.evaluation.tasks.items():
        for code in given.files:
            if code not in languages.roles:
                yield f"evaluation.tasks.{task}.{code}: the language has no role; add it under languages"
    learned = [pairs.learned(languages) for pairs in recipe.evaluation.pairs]
    for i, learned_code in enumerate(learned):
        if learned_code is None:
            both = " nor ".join(recipe.evaluation.pairs[i].parallel)
            yield f"evaluation.pairs.{i}: neither {both} is learned; pairs show how a learned language aligns"
        elif learned_code in learned[:i]:
            before = learned.index(learned_code)
            yield f"evaluation.pairs.{i}: there are pairs of {learned_code} already, in evaluation.pairs.{before}"
    try:
        check_suites(recipe.evaluation.suites, list(languages.roles), recipe.evaluation.datasets)
    except UserError as error:
        yield f"evaluation.suites: {error}"


def selection_problems(recipe: Recipe) -> Iterator[str]:
    if recipe.validation.selection_share is not None and not recipe.selection_languages:
        yield "validation.selection_share: nothing uses a selection split (early_stopping, max_forgetting); remove it"


def text_problems(recipe: Recipe) -> Iterator[str]:
    """Yield learned languages without text to train on, or to measure."""
    stages = recipe.stages.values()
    alone = {entry.language for stage in stages for entry in stage.corpus}
    others = {code for stage in stages for entry in stage.corpus for code in entry.languages}
    others |= {entry.language for stage in stages for entry in stage.instructions or []}
    for code in recipe.languages.learn:
        if code not in alone | others:
            yield f"corpus: there is no text of {code}, which is to be learned; add an entry for it"
        elif code not in alone and code not in recipe.evaluation.given:
            yield (
                f"evaluation.text.{code}: is missing; {code} has only pairs or instructions, of which nothing is held "
                f"out: add 'evaluation: {{text: {{{code}: FILE}}}}', or a corpus of {code} alone"
            )
        if recipe.vocabulary and code not in alone:
            yield f"vocabulary: there is no corpus of {code} alone to learn words from; add one"


def corpus_problems(stage: Stage, languages: Languages) -> Iterator[str]:
    allowed = [*languages.learn, *languages.retained]
    if not stage.corpus and not stage.instructions:
        yield "corpus: is missing; give text to train on"
    for i, entry in enumerate(stage.corpus):
        for code in entry.languages:
            if code not in allowed:
                place = "parallel" if entry.parallel else "language"
                yield f"corpus.{i}.{place}: {code} is neither learned nor retained ({', '.join(allowed)})"
    shares = sum(entry.share or 0 for entry in stage.corpus) + stage.self_generated_share
    if shares >= 1:
        with_written = " with replay.self_generated" if stage.replay else ""
        yield f"corpus: the shares add up to {shares:g}{with_written}; together they must stay below 1"
    if stage.corpus and all(entry.share is not None for entry in stage.corpus):
        yield "corpus: every entry has a 'share'; at least one must have none, the shares are measured against it"


def replay_problems(stage: Stage, languages: Languages) -> Iterator[str]:
    if stage.method.needs_replay and stage.replay is None:
        yield (
            f"method: '{stage.method.name}' needs text that the base generates beside the new text; "
            "add 'replay: {self_generated: 0.2}'"
        )


def instruction_problems(stage: Stage, languages: Languages) -> Iterator[str]:
    if stage.chat_template is not None and not stage.instructions:
        yield "chat_template: is of 'instructions', of which there are none; remove it"
    if not stage.instructions:
        return
    if stage.corpus:
        yield "instructions: give either 'corpus' or 'instructions'; a second stage can have the other"
    for i, entry in enumerate(stage.instructions):
        if entry.language not in [*languages.learn, *languages.retained]:
            allowed = ", ".join([*languages.learn, *languages.retained])
            yield f"instructions.{i}.language: {entry.language} is neither learned nor retained ({allowed})"
    for key in ("replay", "early_stopping", "averaging"):
        if getattr(stage, key) is not None:
            yield f"{key}: is of text, and this trains on instructions; remove it"
    if importlib.util.find_spec("trl") is None:
        yield "instructions: need the library trl; install it with: pip install 'lingraft[instruct]'"
