"""An artificial language: a word for each concept, and a grammar that turns facts into sentences."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, count, permutations
from typing import NamedTuple

from lingraft.synthetic.phonology import CONSONANTS, change_sounds, draw_changes, draw_root, spell
from lingraft.synthetic.world import CONCEPTS, PEOPLE, STRANGERS, Fact

ORDERS = tuple(order for order in permutations(("subject", "verb", "object")) if order[0] != "object")
"""Word orders; object-first orders are rare in natural languages."""

PARTICLES = ("subject", "verb", "object", "question")
"""Markers of case and agreement, and the word that opens a question."""

KEPT = (0.3, 0.5)
"""Range of the share of words that two related languages have in common."""

NAMES = frozenset((*PEOPLE, *STRANGERS))


class Birth(NamedTuple):
    """The code and family of a language; languages of one family share their roots."""

    code: str
    family: str


@dataclass(frozen=True)
class Language:
    """Words by concept, the order of subject, verb and object, and the affixes of each."""

    code: str
    words: dict[str, str]
    order: tuple[str, ...]
    affixes: dict[str, str]
    prefixing: bool

    def sentence(self, fact: Fact) -> str:
        """The sentence that states a fact."""
        return " ".join(self._parts(fact)[part] for part in self.order) + "."

    def before_object(self, fact: Fact) -> str:
        """The sentence up to its object, the value."""
        parts = self._parts(fact)
        return " ".join(parts[part] for part in self.order[: self.order.index("object")])

    def question(self, fact: Fact) -> str:
        """A question for the fact's value; `answer` follows it."""
        parts = self._parts(fact)
        asked = " ".join(parts[part] for part in self.order if part != "object")
        return f"{self.words['question']} {asked}?"

    def answer(self, fact: Fact) -> str:
        return f" {self._parts(fact)['object']}."

    def _parts(self, fact: Fact) -> dict[str, str]:
        stems = {"subject": fact.person, "verb": fact.prop, "object": fact.value}
        return {part: self._inflected(self.words[concept], part) for part, concept in stems.items()}

    def _inflected(self, stem: str, part: str) -> str:
        return self.affixes[part] + stem if self.prefixing else stem + self.affixes[part]


def draw_languages(seed: int, births: Sequence[Birth]) -> dict[str, Language]:
    """The languages of a world, by code. No two concepts have the same word in any of them.

    They are redrawn until the share of common words of relatives is in `KEPT`, so that worlds are comparable.
    """
    kin = [(one.code, other.code) for one, other in combinations(births, 2) if one.family == other.family]
    for attempt in count():
        languages = _draw(f"{seed}.{attempt}", births)
        if all(KEPT[0] <= kept_words(languages[one], languages[other]) <= KEPT[1] for one, other in kin):
            break
    return languages


def kept_words(one: Language, other: Language) -> float:
    """The share of words, names aside, that two languages have in common unchanged."""
    concepts = [concept for concept in CONCEPTS if concept not in NAMES]
    return sum(one.words[concept] == other.words[concept] for concept in concepts) / len(concepts)


def _draw(seed: str, births: Sequence[Birth]) -> dict[str, Language]:
    changes = {birth.code: draw_changes(random.Random(f"changes {seed} {birth.code}")) for birth in births}
    orders = random.Random(f"orders {seed}").sample(ORDERS, len(births))

    def word_in(birth: Birth, root: str) -> str:
        return spell(change_sounds(root, changes[birth.code]), birth.code[-4:])

    words = _draw_words(seed, births, word_in)
    languages = {}
    for birth, order in zip(births, orders, strict=True):
        own = words[birth.code]
        prefixing = random.Random(f"affixes {seed} {birth.code}").random() < 0.5
        affixes = {part: own.pop(part) for part in PARTICLES if part != "question"}
        languages[birth.code] = Language(birth.code, own, order, affixes, prefixing)
    return languages


def _draw_words(seed: str, births: Sequence[Birth], word_in: Callable[[Birth, str], str]) -> dict[str, dict[str, str]]:
    """A word for each concept and language, from one root a family; names have one root for all."""
    words: dict[str, dict[str, str]] = {birth.code: {} for birth in births}
    families = {birth.family: [member for member in births if member.family == birth.family] for birth in births}
    consonants = {family: _inventory(seed, family) for family in families}
    for concept in (*PARTICLES, *CONCEPTS):
        shared = {"all": list(births)} if concept in NAMES else families
        for family, kin in shared.items():
            draw = random.Random(f"root {seed} {family} {concept}")
            while True:
                syllables = 1 if concept in PARTICLES else 3 if concept in NAMES else 2
                root = draw_root(draw, syllables, consonants.get(family, CONSONANTS))
                coined = {birth.code: word_in(birth, root) for birth in kin}
                if all(word and word not in words[code].values() for code, word in coined.items()):
                    break
            for code, word in coined.items():
                words[code][concept] = word
    return words


def _inventory(seed: str, family: str) -> str:
    """The consonants of a family's first language, a dozen of all."""
    return "".join(sorted(random.Random(f"sounds {seed} {family}").sample(CONSONANTS, 12)))
