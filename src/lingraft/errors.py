"""Every error that lingraft raises on purpose, and the exit code it ends with.

    LingraftError                1   internal error
    ├── UserError                2   invalid input; one clear message, nothing left behind
    │   ├── RecipeError              all problems of a recipe at once
    │   ├── CorpusError              text that cannot be read or is not enough
    │   ├── ModelError               a base that is missing, incomplete or not supported
    │   ├── SelectionError           a layer range or module list that matches nothing
    │   ├── TrainingError            training that cannot go on (a loss that is not a number)
    │   └── OutputError              an output path that lingraft may not write
    └── MachineError             3   out of resources; run again to resume
    Interrupted                      3   a signal; derives from BaseException, like `KeyboardInterrupt`

A message says what was given, where, what is allowed, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class LingraftError(Exception):
    """Base of all errors of this package. `exit_code` is what the command line ends with."""

    exit_code = 1


class UserError(LingraftError):
    """Invalid input: exit code 2, no traceback; nothing is left behind unless training had begun."""

    exit_code = 2


class RecipeError(UserError):
    """One or more problems of a recipe, reported together.

    `problems` holds one line each, `path.to.key: what is wrong, what is allowed`.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{source}: {count}", *(f"  {p}" for p in self.problems)]))


class CorpusError(UserError):
    """Text that cannot be read, or is not enough for what the recipe asks."""


class ModelError(UserError):
    """A base model that is missing, incomplete, or of an unsupported architecture."""


class SelectionError(UserError):
    """A range of layers or a list of modules that matches nothing or overlaps."""


class TrainingError(UserError):
    """Training that cannot go on with these settings."""


class OutputError(UserError):
    """An output path that exists and was not written by lingraft."""


class MachineError(LingraftError):
    """The machine stopped the work (disk full, out of memory): exit code 3."""

    exit_code = 3


class Interrupted(BaseException):
    """A signal stopped the work: exit code 3. Not an `Exception`, since libraries catch those and go on."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its class name where the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]


def nearest(word: str, allowed: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the closest allowed word, or an empty string."""
    close = get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
