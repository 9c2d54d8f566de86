"""A small world of facts about people, and of strangers without known facts.

A fact gives the value of a property of a person. Facts about people hold in every text, so a model
can know them; facts about a stranger hold in one text alone, so a model has to read it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

NUM_PEOPLE = 20
NUM_STRANGERS = 16
NUM_PROPERTIES = 6
NUM_VALUES = 10

PEOPLE = tuple(f"person.{i}" for i in range(NUM_PEOPLE))
STRANGERS = tuple(f"stranger.{i}" for i in range(NUM_STRANGERS))
PROPERTIES = tuple(f"property.{i}" for i in range(NUM_PROPERTIES))


def values(prop: str) -> tuple[str, ...]:
    """The values that a property can have."""
    return tuple(f"{prop}.value.{i}" for i in range(NUM_VALUES))


CONCEPTS = (*PEOPLE, *STRANGERS, *PROPERTIES, *(value for prop in PROPERTIES for value in values(prop)))
"""Everything that a language has a word for."""


class Fact(NamedTuple):
    """The value of a property of a person."""

    person: str
    prop: str
    value: str


@dataclass(frozen=True)
class World:
    """All facts about people."""

    facts: tuple[Fact, ...]

    def fact(self, person: str, prop: str) -> Fact:
        return self.facts[PEOPLE.index(person) * NUM_PROPERTIES + PROPERTIES.index(prop)]


def draw_world(seed: int) -> World:
    """The world of a seed."""
    draw = random.Random(f"world {seed}")
    return World(tuple(Fact(person, prop, draw.choice(values(prop))) for person in PEOPLE for prop in PROPERTIES))
