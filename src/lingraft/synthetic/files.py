"""Write the testbed as files: JSON Lines of text, and of questions with options."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lingraft.corpus.read import write_records, write_texts
from lingraft.evaluation.questions import Question
from lingraft.synthetic.language import Birth, Language, draw_languages
from lingraft.synthetic.texts import (
    cloze_question,
    knowledge_document,
    reading_document,
    reading_question,
    translation_document,
    translation_question,
)
from lingraft.synthetic.world import World, draw_world

BIRTHS = (
    Birth("qaa_Latn", "western"),
    Birth("qab_Latn", "eastern"),
    Birth("qac_Cyrl", "northern"),
    Birth("qad_Latn", "western"),
)
"""A relative of the new language, a language of another family in the same script, one in another script."""
NEW = "qad_Latn"
OLD = tuple(birth.code for birth in BIRTHS if birth.code != NEW)

TASKS = ("cloze", "comprehension", "translation")

TRAINING_DOCUMENTS = 6000
"""Per old language, of which the base is trained."""
NEW_DOCUMENTS = 2000
"""Of the new language."""
MEASURED_DOCUMENTS = 80
QUESTIONS = 64
"""Per task and language."""
KINDS = {"knowledge": 25, "reading": 53, "translation": 22}
"""Kinds per hundred documents. The new language has no translations, only text of its own."""


def training_file(folder: Path, code: str) -> Path:
    return folder / "text" / f"{code}.jsonl"


def measured_file(folder: Path, code: str) -> Path:
    return folder / "measured" / f"{code}.jsonl"


def questions_file(folder: Path, task: str, code: str) -> Path:
    return folder / "questions" / f"{task}.{code}.jsonl"


def write_testbed(folder: Path, seed: int) -> None:
    """Write training text, text to measure on and questions of every language of a seed's world."""
    world, languages = draw_world(seed), draw_languages(seed, BIRTHS)
    for name in ("text", "measured", "questions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for code in languages:
        draw = random.Random(f"text {seed} {code}")
        documents = _documents(world, languages, code, draw)
        measured = list(islice(documents, MEASURED_DOCUMENTS))
        others = (document for document in documents if document not in measured)
        write_texts(measured_file(folder, code), measured)
        write_texts(training_file(folder, code), islice(others, NEW_DOCUMENTS if code == NEW else TRAINING_DOCUMENTS))
        for task in TASKS:
            draw = random.Random(f"{task} {seed} {code}")
            questions = _questions(world, languages, code, task, draw)
            write_records(questions_file(folder, task, code), (question.model_dump() for question in questions))


def _documents(world: World, languages: dict[str, Language], code: str, draw: random.Random) -> Iterator[str]:
    """Endless documents of a language, with translations from the other old languages."""
    language = languages[code]
    kinds = [kind for kind in KINDS if kind != "translation" or code != NEW]
    while True:
        kind = draw.choices(kinds, [KINDS[kind] for kind in kinds])[0]
        if kind == "knowledge":
            yield knowledge_document(language, world, draw)
        elif kind == "reading":
            yield reading_document(language, draw)
        else:
            yield translation_document(languages[_other(code, draw)], language, draw)


def _other(code: str, draw: random.Random) -> str:
    return draw.choice([old for old in OLD if old != code])


def _questions(
    world: World, languages: dict[str, Language], code: str, task: str, draw: random.Random
) -> Iterator[Question]:
    language = languages[code]
    for fact in draw.sample(world.facts, QUESTIONS):
        if task == "cloze":
            yield cloze_question(language, world, fact, draw)
        elif task == "comprehension":
            yield reading_question(language, draw)
        else:
            yield translation_question(languages[_other(code, draw)], language, draw)
