"""What is written in a language: documents of three kinds, and questions with four choices on each.

- knowledge: facts about a person; asked by a cloze whose answer stands in no context.
- reading: a passage about a stranger, and questions that only the passage answers.
- translation: one fact in two languages; asked among translations that are wrong in one word.
"""

from __future__ import annotations

import random

from lingraft.evaluation.questions import Question
from lingraft.testbed.language import Language
from lingraft.testbed.world import PEOPLE, PROPERTIES, STRANGERS, Fact, World, values

NUM_CHOICES = 4


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


def translation_document(source: Language, target: Language, world: World, draw: random.Random) -> str:
    """A fact in one language, and the same in another."""
    fact = world.draw_fact(draw)
    return f"{source.sentence(fact)} = {target.sentence(fact)}"


def cloze_question(language: Language, world: World, fact: Fact, draw: random.Random) -> Question:
    """A text about a person that breaks off before it says a value: which one does the person have?"""
    others = draw.sample([value for value in values(fact.prop) if value != fact.value], NUM_CHOICES - 1)
    known = world.fact(fact.person, draw.choice([prop for prop in PROPERTIES if prop != fact.prop]))
    told = language.sentence(known)
    texts = [f"{told} {language.sentence(fact._replace(value=value))}" for value in (fact.value, *others)]
    return _shuffled(f"{told} {language.before_object(fact)}", texts, draw)


def reading_question(language: Language, draw: random.Random) -> Question:
    """A passage and one question; the other choices are values of the same property."""
    passage = _passage(draw)
    fact = draw.choice(passage)
    others = draw.sample([value for value in values(fact.prop) if value != fact.value], NUM_CHOICES - 1)
    context = f"{_told(language, passage)}\n{language.question(fact)}"
    answers = [context + language.answer(fact._replace(value=value)) for value in (fact.value, *others)]
    return _shuffled(context, answers, draw)


def translation_question(source: Language, target: Language, fact: Fact, draw: random.Random) -> Question:
    """Which of four sentences says the same? The others differ in who, in what is said of them, or in its value."""
    wrong = (
        fact._replace(person=draw.choice([person for person in PEOPLE if person != fact.person])),
        fact._replace(prop=draw.choice([prop for prop in PROPERTIES if prop != fact.prop])),
        fact._replace(value=draw.choice([value for value in values(fact.prop) if value != fact.value])),
    )
    context = f"{source.sentence(fact)} ="
    return _shuffled(context, [f"{context} {target.sentence(of)}" for of in (fact, *wrong)], draw)


def _passage(draw: random.Random) -> list[Fact]:
    """Four things about one stranger."""
    stranger = draw.choice(STRANGERS)
    return [Fact(stranger, prop, draw.choice(values(prop))) for prop in draw.sample(PROPERTIES, 4)]


def _told(language: Language, passage: list[Fact]) -> str:
    return " ".join(language.sentence(fact) for fact in passage)


def _shuffled(context: str, texts: list[str], draw: random.Random) -> Question:
    """The texts, of which the first is right, in a random order, each less the context that all begin with."""
    order = draw.sample(range(len(texts)), len(texts))
    return Question(context=context, choices=[texts[i].removeprefix(context) for i in order], answer=order.index(0))
