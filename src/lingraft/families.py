"""Families of languages, as arXiv 2606.00284 groups them and as its authors trained and observed them.

Dravidian languages stand under Indic there, and Lithuanian and Latvian under Slavic. A language in none of the lists
has no family here.
"""

from __future__ import annotations

from collections.abc import Iterable

TRAINED = {
    "Slavic": "mkd hrv rus slk srp ukr",
    "Germanic": "afr fry ltz dan nld eng",
    "Indic": "ben hin kan mal mar npi tam tel",
    "Austronesian": "smo jav ceb fil ind zsm",
    "Romance": "spa por fra glg ita ron",
}
"""Family -> ISO 639-3 of the languages that train."""
OBSERVED = {
    "Slavic": "bul ces lit pol slv lvs",
    "Germanic": "deu isl nob swe",
    "Indic": "asm guj ory pan sin snd urd",
    "Austronesian": "ilo min sun war mri plt",
    "Romance": "cat",
}
"""Family -> those that are measured and never trained."""

_FAMILIES = {code: family for lists in (TRAINED, OBSERVED) for family, codes in lists.items() for code in codes.split()}
_SAME = {"tgl": "fil", "nor": "nob", "lav": "lvs", "nep": "npi", "msa": "zsm", "ori": "ory", "mlg": "plt", "nno": "nob"}
"""Other codes of listed languages, or of their nearest relative."""


def family_of(code: str) -> str | None:
    """The family of a language; None where no list has it."""
    own = code.partition("_")[0]
    return _FAMILIES.get(_SAME.get(own, own))


def by_family(codes: Iterable[str]) -> dict[str, list[str]]:
    """Family -> its languages, in order; a language without a family stands alone, under its code."""
    found: dict[str, list[str]] = {}
    for code in codes:
        found.setdefault(family_of(code) or code, []).append(code)
    return found
