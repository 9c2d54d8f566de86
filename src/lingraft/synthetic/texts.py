"""Texts of a language: documents of three kinds, and questions with four options on each kind.

- knowledge: facts about a person; tested by a cloze whose answer is in no context.
- reading: a passage about a stranger, and questions that only the passage answers.
- translation: a fact about a stranger in two languages; tested against sentences with one wrong part.

The options alone do not give the answer away: all options of a cloze are values of one property; of the wrong
options of a reading question, two are values of the right property and one is in the passage; no option of a
translation is more plausible than another, since nothing is known about strangers.
"""

from __future__ import annotations

import random

from lingraft.evaluation.questions import Question
from lingraft.synthetic.language import Language
from lingraft.synthetic.world import PEOPLE, PROPERTIES, STRANGERS, Fact, World, values

NUM_OPTIONS = 4


def knowledge_document(language: Language, world: World, draw: random.Random) -> str:
    """Four to six facts about one person."""
    person = draw.choice(PEOPLE)
    told = draw.sample(PROPERTIES, draw.randint(4, 6))
    return " ".join(language.sentence(world.fact(person, prop)) for prop in told)


def reading_document(language: Language, draw: random.Random) -> str:
    """A passage, then all questions that it answers, with their answers."""
    passage = _passage(draw)
    asked = draw.sample(passage, len(passage))
    return "\n".join([_told(language, passage), *(language.question(fact) + language.answer(fact) for fact in asked)])


def translation_document(source: Language, target: Language, draw: random.Random) -> str:
    """Four facts about strangers in one language, each followed by its translation."""
    facts = [_something(draw) for _ in range(4)]
    return "\n".join(f"{source.sentence(fact)} = {target.sentence(fact)}" for fact in facts)


def cloze_question(language: Language, world: World, fact: Fact, draw: random.Random) -> Question:
    """A text about a person that breaks off before it says a value: which one does the person have?"""
    others = draw.sample([value for value in values(fact.prop) if value != fact.value], NUM_OPTIONS - 1)
    known = world.fact(fact.person, draw.choice([prop for prop in PROPERTIES if prop != fact.prop]))
    told = language.sentence(known)
    texts = [f"{told} {language.sentence(fact._replace(value=value))}" for value in (fact.value, *others)]
    return _shuffled(f"{told} {language.before_object(fact)}", texts, draw)


def reading_question(language: Language, draw: random.Random) -> Question:
    """A passage and one question; two wrong options are values of the same property, one is from the passage."""
    passage = _passage(draw)
    fact = draw.choice(passage)
    others = draw.sample([value for value in values(fact.prop) if value != fact.value], NUM_OPTIONS - 2)
    others.append(draw.choice([other.value for other in passage if other != fact]))
    context = f"{_told(language, passage)}\n{language.question(fact)}"
    answers = [context + language.answer(fact._replace(value=value)) for value in (fact.value, *others)]
    return _shuffled(context, answers, draw)


def translation_question(source: Language, target: Language, draw: random.Random) -> Question:
    """Which of four sentences is the translation? The others have a wrong person, property or value."""
    fact = _something(draw)
    other_property = draw.choice([prop for prop in PROPERTIES if prop != fact.prop])
    wrong = (
        fact._replace(person=draw.choice([stranger for stranger in STRANGERS if stranger != fact.person])),
        fact._replace(prop=other_property, value=draw.choice(values(other_property))),
        fact._replace(value=draw.choice([value for value in values(fact.prop) if value != fact.value])),
    )
    context = f"{source.sentence(fact)} ="
    return _shuffled(context, [f"{context} {target.sentence(other)}" for other in (fact, *wrong)], draw)


def _something(draw: random.Random) -> Fact:
    """A random fact about a stranger."""
    prop = draw.choice(PROPERTIES)
    return Fact(draw.choice(STRANGERS), prop, draw.choice(values(prop)))


def _passage(draw: random.Random) -> list[Fact]:
    """Four random facts about one stranger."""
    stranger = draw.choice(STRANGERS)
    return [Fact(stranger, prop, draw.choice(values(prop))) for prop in draw.sample(PROPERTIES, 4)]


def _told(language: Language, passage: list[Fact]) -> str:
    return " ".join(language.sentence(fact) for fact in passage)


def _shuffled(context: str, texts: list[str], draw: random.Random) -> Question:
    """A question from texts that begin with the context; the first is right, the order becomes random."""
    order = draw.sample(range(len(texts)), len(texts))
    return Question(context=context, choices=[texts[i].removeprefix(context) for i in order], answer=order.index(0))
