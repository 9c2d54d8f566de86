"""Sounds, the scripts that spell them, and the sound changes that separate related languages.

A sound is one character of `SOUNDS`; a root is a string of sounds.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

VOWELS = "aeiou"
CONSONANTS = "ptkbdgfsxhvzmnlrwy"
SOUNDS = VOWELS + CONSONANTS

SCRIPTS = {
    "Latn": dict(zip(SOUNDS, SOUNDS, strict=True)),
    "Cyrl": dict(zip(SOUNDS, "аеиоупткбдгфсшхвзмнлрўй", strict=True)),
}
"""Letters of each sound, one a sound."""


class SoundChange(NamedTuple):
    """`pattern` becomes `result`, wherever it stands."""

    pattern: str
    result: str


SOUND_CHANGES = (
    SoundChange(r"(?<=[aeiou])p(?=[aeiou])", "b"),
    SoundChange(r"(?<=[aeiou])t(?=[aeiou])", "d"),
    SoundChange(r"(?<=[aeiou])k(?=[aeiou])", "g"),
    SoundChange(r"(?<=[aeiou])s(?=[aeiou])", "z"),
    SoundChange(r"(?<=[aeiou])b(?=[aeiou])", "v"),
    SoundChange(r"k(?=[ei])", "x"),
    SoundChange(r"t(?=i)", "s"),
    SoundChange(r"\bp", "f"),
    SoundChange(r"\bk", "h"),
    SoundChange(r"\bd", "t"),
    SoundChange(r"l", "r"),
    SoundChange(r"w", "v"),
    SoundChange(r"h", ""),
    SoundChange(r"y(?=i)", ""),
    SoundChange(r"a\b", "e"),
    SoundChange(r"o\b", "u"),
    SoundChange(r"[ei]\b", "i"),
    SoundChange(r"u(?=[aeiou]*[mn])", "o"),
)
"""Sound changes in order; a language undergoes some of them."""

NUM_CHANGES = 7


def draw_changes(draw: random.Random) -> tuple[SoundChange, ...]:
    """The sound changes that a language went through since its family's first language."""
    chosen = set(draw.sample(range(len(SOUND_CHANGES)), NUM_CHANGES))
    return tuple(change for number, change in enumerate(SOUND_CHANGES) if number in chosen)


def change_sounds(root: str, changes: tuple[SoundChange, ...]) -> str:
    """Apply sound changes to a root."""
    for change in changes:
        root = re.sub(change.pattern, change.result, root)
    return root


def draw_root(draw: random.Random, syllables: int, consonants: str) -> str:
    """A root of open syllables, the last one perhaps closed by a nasal, a liquid or s."""
    open_syllables = "".join(draw.choice(consonants) + draw.choice(VOWELS) for _ in range(syllables))
    return open_syllables + (draw.choice("nrs") if draw.random() < 0.25 else "")


def spell(sounds: str, script: str) -> str:
    """The sounds in the letters of an ISO 15924 script."""
    return "".join(SCRIPTS[script][sound] for sound in sounds)
