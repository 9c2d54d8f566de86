"""Families of inputs: each file has one generator, `(random, folder) -> arguments of lingraft`.

The folder is a fresh copy of the world, in which a generator may write; a command reads it as its current folder.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from robustness.families.checkpoints import checkpoints
from robustness.families.command_lines import command_lines
from robustness.families.corpora import corpora
from robustness.families.machine import machine
from robustness.families.questions import instructions, questions
from robustness.families.recipes import recipes
from robustness.families.reports import reports
from robustness.families.settings import settings

Generator = Callable[[random.Random, Path], list[str]]

FAMILIES: dict[str, tuple[Generator, int]] = {
    "recipes": (recipes, 24),
    "settings": (settings, 18),
    "command lines": (command_lines, 18),
    "corpora": (corpora, 12),
    "checkpoints": (checkpoints, 16),
    "reports": (reports, 6),
    "questions": (questions, 3),
    "instructions": (instructions, 2),
    "machine": (machine, 1),
}
"""A family's generator, and how many of 100 inputs it makes."""
