"""Language codes in the FLORES style: an ISO 639-3 code and an ISO 15924 script, `swh_Latn`.

The tables are those of the standards (pycountry), so that any living language can be named.
`qaa` to `qtz`, the range that ISO 639-3 keeps for private use, are allowed as well.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import pycountry

from lingraft.errors import UserError, nearest

_CODE = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})")
_PRIVATE_USE = re.compile(r"q[a-t][a-z]")

BETWEEN = "–"
"""Between the two languages of aligned pairs, where both are called."""


class Language(NamedTuple):
    """A language in a script."""

    code: str  # swh_Latn
    name: str  # Swahili (individual language)
    script: str  # Latin


def parse_language(code: str) -> Language:
    """The language of a code such as `swh_Latn`.

    Raises:
        UserError: the code is not of that form, or names a language or script that the
            standards do not have.
    """
    match = _CODE.fullmatch(code)
    if match is None:
        raise UserError(
            f"'{code}' is not a language code; codes are an ISO 639-3 language, an underscore and "
            f"an ISO 15924 script, such as swh_Latn{_suggest(code)}"
        )
    language = pycountry.languages.get(alpha_3=match[1])
    script = pycountry.scripts.get(alpha_4=match[2])
    if language is None and not _PRIVATE_USE.fullmatch(match[1]):
        raise UserError(f"'{code}': ISO 639-3 has no language '{match[1]}'{_suggest(match[1])}")
    if script is None:
        scripts = [s.alpha_4 for s in pycountry.scripts]
        raise UserError(f"'{code}': ISO 15924 has no script '{match[2]}'{nearest(match[2], scripts)}")
    name = language.name if language else f"private-use language {match[1]}"
    return Language(code, name, script.name)


def _suggest(given: str) -> str:
    """A hint for what is nearly a code: `sw`, `Swahili`, `swh_Latin`, `shw`."""
    word, _, script = given.replace("-", "_").partition("_")
    word = word.lower()
    known = pycountry.languages.get(alpha_3=word)
    if known and not script:
        return f" ('{word}' is {known.name}; add the script, as in {word}_Latn)"
    if known:
        return nearest(f"{word}_{script.title()}", [f"{word}_{s.alpha_4}" for s in pycountry.scripts])
    by_two_letters = pycountry.languages.get(alpha_2=word.lower())
    if by_two_letters:
        return f" ('{word}' is {by_two_letters.name}, {by_two_letters.alpha_3} in ISO 639-3)"
    named = [x for x in pycountry.languages if x.name.lower().split(" (")[0] == word.lower()]
    if named:
        return f" ({' or '.join(f'{x.alpha_3} is {x.name}' for x in named)})"
    return nearest(word.lower(), [language.alpha_3 for language in pycountry.languages])
