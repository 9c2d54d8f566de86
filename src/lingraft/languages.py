"""Language codes in the FLORES style: an ISO 639-3 code and an ISO 15924 script, `swh_Latn`.

The tables come from the standards (pycountry), so that any living language can be named. A user may write a shorter
or other name that means only one language; records always have the code. `qaa` to `qtz`, the private-use range of
ISO 639-3, are allowed too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar

import pycountry

from lingraft.errors import UserError, nearest

_CODE = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})")
_PRIVATE_USE = re.compile(r"q[a-t][a-z]")

CHAT = "chat"
"""Stands for a language under `languages.retain`: what an instruct base asks and answers in its chat template."""

BETWEEN = "–"
"""Separates the two languages of aligned pairs."""


Role = Literal["learn", "retain", "observe"]
"""What a run has to do with a language."""

T = TypeVar("T")


class Language(NamedTuple):
    """A language in a script."""

    code: str  # swh_Latn
    name: str  # Swahili (individual language)
    script: str  # Latin


@cache
def parse_language(given: str) -> Language:
    """The language of a code such as `swh_Latn`, or of an unambiguous name: `gl`, `glg`, `Galician`, `sr-Latn`.

    Without a script, the language's only script is taken.

    Raises:
        UserError: it names no language, or several, or a language or script that the standards do not have.
    """
    match = _CODE.fullmatch(given)
    if match is None:
        return _meant(given)
    language = pycountry.languages.get(alpha_3=match[1])
    script = pycountry.scripts.get(alpha_4=match[2])
    if language is None and not _PRIVATE_USE.fullmatch(match[1]):
        raise UserError(f"'{given}': ISO 639-3 has no language '{match[1]}'{_nearest_language(match[1])}")
    if script is None:
        scripts = [s.alpha_4 for s in pycountry.scripts]
        raise UserError(f"'{given}': ISO 15924 has no script '{match[2]}'{nearest(match[2], scripts)}")
    name = language.name if language else f"private-use language {match[1]}"
    return Language(given, name, script.name)


def code_of(given: str) -> str:
    """The code of a language, named in any unambiguous way.

    Raises:
        UserError: as `parse_language`.
    """
    return parse_language(given).code


def by_code(given: Mapping[str, T]) -> dict[str, T]:
    """The same mapping with codes as keys.

    Raises:
        UserError: as `parse_language`, or two names mean one language.
    """
    found: dict[str, T] = {}
    for name, value in given.items():
        if (code := code_of(name)) in found:
            raise UserError(f"'{name}': {code} is named twice; give it once")
        found[code] = value
    return found


def _meant(given: str) -> Language:
    languages, script = _named(given), None
    word, separator, last = given.replace("-", "_").rpartition("_")
    if not languages and separator and (script := _script(last)):
        languages = _named(word)
    if not languages and _PRIVATE_USE.fullmatch(given):
        raise _no_code(given, f" (it needs its script, as in {given}_Latn)")
    if not languages:
        raise _no_code(given, _nearest_language(word or given))
    if len(languages) > 1 or languages[0].scope == "M":
        raise _no_code(given, f" ({_meanings(languages)})")
    language = languages[0]
    scripts = [script] if script else _scripts(language)
    if len(scripts) != 1:
        code = language.alpha_3
        several = f"is written in several scripts: {_either([f'{code}_{script_code}' for script_code in scripts])}"
        raise _no_code(given, f" ({language.name} {several if scripts else f'needs its script, as in {code}_Latn'})")
    return parse_language(f"{language.alpha_3}_{scripts[0]}")


def _no_code(given: str, hint: str) -> UserError:
    return UserError(
        f"'{given}' is not a language code; codes are an ISO 639-3 language, an underscore and "
        f"an ISO 15924 script, such as swh_Latn{hint}"
    )


def _named(word: str) -> list[Any]:
    """The languages that a code or an English name may mean; a macrolanguage only where no other language fits."""
    word = word.lower()
    if not word:
        return []
    for kind in ("alpha_2", "alpha_3", "bibliographic"):
        if language := pycountry.languages.get(**{kind: word}):
            return [language]
    names, inverted = _by_name()
    named = names.get(word) or inverted.get(word, [])
    return [language for language in named if language.scope != "M"] or named


@cache
def _by_name() -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Languages by name, and living languages by the name before the comma: "Greek" for "Greek, Modern (1453-)"."""
    names: defaultdict[str, list[Any]] = defaultdict(list)
    inverted: defaultdict[str, list[Any]] = defaultdict(list)
    for language in pycountry.languages:
        for name in {_plain_name(language), getattr(language, "common_name", "").lower()}:
            names[name].append(language)
        before, comma, _ = getattr(language, "inverted_name", "").lower().partition(",")
        if comma and language.type == "L":
            inverted[before].append(language)
    return dict(names), dict(inverted)


def _plain_name(language: Any) -> str:
    name: str = language.name.split(" (")[0].lower()
    return name


def _script(word: str) -> str | None:
    by_name = (entry for entry in pycountry.scripts if entry.name.lower() == word.lower())
    script = pycountry.scripts.get(alpha_4=word.title()) or next(by_name, None)
    return script.alpha_4 if script else None


def _scripts(language: Any) -> list[str]:
    """The scripts that a language is written in, by country (CLDR's likely subtags); the usual script first.

    Where CLDR lacks a language it has the macrolanguage: Swahili for `swh`.
    """
    from langcodes.data_dicts import LIKELY_SUBTAGS, MACROLANGUAGES

    own = [getattr(language, "alpha_2", language.alpha_3), MACROLANGUAGES.get(language.alpha_3, "")]
    tag = next((tag for tag in own if tag in LIKELY_SUBTAGS), None)
    in_country = re.compile(f"{tag}(-([A-Z]{{2}}|[0-9]{{3}}))?")
    if language.type == "S":  # a special code, such as "undetermined"
        return []
    likely = {key: subtag for key, subtag in LIKELY_SUBTAGS.items() if tag and in_country.fullmatch(key)}
    return list(
        dict.fromkeys(subtag.split("-")[1] for _, subtag in sorted(likely.items(), key=lambda item: len(item[0])))
    )


def _meanings(languages: Sequence[Any]) -> str:
    """The languages that an ambiguous name or a macrolanguage can mean."""
    first = languages[0]
    if len(languages) > 1:
        return f"it can be {_either([f'{language.alpha_3} ({language.name})' for language in languages[:8]])}"
    from langcodes.data_dicts import MACROLANGUAGES

    of_it = [tag for tag, macro in MACROLANGUAGES.items() if macro in (getattr(first, "alpha_2", ""), first.alpha_3)]
    members = [found for tag in of_it if (found := pycountry.languages.get(**{f"alpha_{len(tag)}": tag}))]
    members.sort(key=lambda language: (_plain_name(first) not in _plain_name(language), language.alpha_3))
    shown = _either([f"{language.alpha_3} ({language.name})" for language in members[:8]]) + (
        " and others" if len(members) > 8 else ""
    )
    return f"{first.name}, {first.alpha_3} in ISO 639-3, is several languages: {shown or 'name one, with its script'}"


class Macrolanguage(NamedTuple):
    """The codes of the language that a data set names: Swahili, where the language is coastal Swahili."""

    alpha2: str  # sw; empty where ISO 639-1 has none
    alpha3: str  # swa


@cache
def macrolanguage(code: str) -> Macrolanguage:
    """The macrolanguage of a language; the language itself where it is in none."""
    from langcodes.data_dicts import MACROLANGUAGES

    own = code.partition("_")[0]
    language = pycountry.languages.get(alpha_3=own)
    tag = MACROLANGUAGES.get(own, getattr(language, "alpha_2", own))
    macro = pycountry.languages.get(**{f"alpha_{len(tag)}": tag})
    return Macrolanguage(getattr(macro, "alpha_2", ""), getattr(macro, "alpha_3", own))


def _either(words: Sequence[str]) -> str:
    return " or ".join(words)


def _nearest_language(word: str) -> str:
    """The nearest code with the same first letter, as a hint; words of four letters or more may be names too."""
    codes, names = _by_letter()
    letter = word[:1].lower()
    known = {**(names.get(letter, {}) if len(word) > 3 else {}), **codes.get(letter, {})}
    close = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" (did you mean '{known[close[0]]}'?)" if close else ""


@cache
def _by_letter() -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Codes and names by first letter: as compared -> as shown."""
    codes: defaultdict[str, dict[str, str]] = defaultdict(dict)
    names: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for language in pycountry.languages:
        codes[language.alpha_3[0]][language.alpha_3] = language.alpha_3
        names[_plain_name(language)[:1]][_plain_name(language)] = language.name
    return dict(codes), dict(names)
