"""The keys of a corpus entry that belong to sources, and the source that the keys of an entry select."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_type_hints

from lingraft.corpus.sources import SOURCES, Source
from lingraft.errors import CorpusError


@cache
def entry_fields() -> dict[str, tuple[Any, Any]]:
    """The keys of all sources as fields of a pydantic model, each with its type and default.

    A required key may be missing in an entry, since another source can be given. Keys of one source come before keys
    that several sources share.
    """
    fields: dict[str, tuple[Any, Any]] = {}
    owners = Counter(name for source in SOURCES.values() for name in source.entry_keys())
    for source in SOURCES.values():
        hints = get_type_hints(source, include_extras=True)
        for name in source.entry_keys():
            field = source.model_fields[name]
            fields[name] = (hints[name] | None, None) if field.is_required() else (hints[name], field.default)
    return {name: fields[name] for name in sorted(fields, key=lambda name: owners[name] > 1)}


def select_source(values: Mapping[str, Any], pair: tuple[str, ...]) -> Source:
    """The source of a corpus entry with these values, each of which is valid. `pair`: the fields of aligned pairs.

    Raises:
        CorpusError: no source is given, or several are, or a key of another source is.
    """
    given = [key for key in SOURCES if values[key] is not None]
    if len(given) != 1:
        number = {0: "neither", 2: "both"}.get(len(given), "several")
        raise CorpusError(f"give either {_or(_quoted(SOURCES))} ({number} are given)")
    source = SOURCES[given[0]]
    for name, (_, default) in entry_fields().items():
        if values[name] != default and name not in source.entry_keys():
            owners = {key: other for key, other in SOURCES.items() if name in other.entry_keys()}
            nouns = _or(other.noun for other in owners.values())
            raise CorpusError(f"'{name}' is of {nouns}; give {_or(_quoted(owners))} too, or remove it")
    return source.model_construct(pair=pair, **{name: values[name] for name in source.entry_keys()})


def _quoted(names: Iterable[str]) -> Iterable[str]:
    return (f"'{name}'" for name in names)


def _or(words: Iterable[str]) -> str:
    return " or ".join(words)
