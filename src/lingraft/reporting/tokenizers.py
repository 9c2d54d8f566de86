"""Fertility of tokenizers: of bases, of runs with new tokens, and of fertility files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from lingraft.checkpoints.names import public_name
from lingraft.reporting.bars import Bar, BarGroup, bars
from lingraft.reporting.checked import read_object, read_schema
from lingraft.reporting.figures import SOFT, escaped
from lingraft.reporting.read import COLOURS, Run, Style, language_name, shortest_ends
from lingraft.reporting.tables import Cell
from lingraft.schema import Fertilities
from lingraft.vocabulary.fertility import HIGH_COST, MANY_BYTES, MANY_UNKNOWN

Languages = dict[str, dict[str, Any]]

COLUMNS = {
    "tokens_per_word": "tokens per word",
    "bytes_per_token": "bytes per token",
    "byte_share": "byte-fallback tokens",
    "cost": "cost beside English",
    "unknown_share": "unknown tokens",
}
LIMITS = {"byte_share": MANY_BYTES, "unknown_share": MANY_UNKNOWN, "cost": HIGH_COST}
"""Limits from which a language is over-segmented."""


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer, with a record for each language."""

    label: str
    name: str
    style: Style
    languages: Languages


class Row(NamedTuple):
    """A row of one language: for each column, a cell per tokenizer of the row."""

    code: str
    tokenizer: Tokenizer | None
    """The tokenizer of the row; `None` where all tokenizers share it."""
    cells: list[list[Cell]]
    below: int
    """Rows of this language from this one on; 0 where an earlier row names the language."""


def is_fertility(path: Path) -> bool:
    """Whether a file is one of `lingraft tokenizer fertility`."""
    value = (read_object(path) or {}) if path.is_file() else {}
    return "models" in value and "languages" not in value


def tokenizers(runs: Sequence[Run], files: Sequence[Path]) -> dict[str, Any] | None:
    """The section on tokenizers: bars, rows and warnings; `None` where no tokenizer was measured.

    Raises:
        UserError: a file of another form.
    """
    measured = [read_schema(file, Fertilities, "fertility file")["models"] for file in files]
    of_runs = _of_runs(runs, alone=not files)
    found = [*of_runs, *_of_files(measured, len(of_runs))]
    roles = [code for run in runs for code in run.languages]
    codes = list(dict.fromkeys([*roles, *(code for tokenizer in found for code in tokenizer.languages)]))
    codes = [code for code in codes if any(code in tokenizer.languages for tokenizer in found)]
    if not codes:
        return None
    shared = len(found) == 1 or [tokenizer.label for tokenizer in found] == ["before", "after"]
    columns = [key for key in COLUMNS if key not in LIMITS or _is_worth_a_column(key, found)]
    return {
        "all": found,
        "figure": _figure(found, codes),
        "columns": [COLUMNS[key] for key in columns],
        "shared": shared,
        "rows": _rows(found, codes, columns, shared),
        "warnings": _warnings(found, codes),
        "codes": codes,
    }


def signs(record: dict[str, Any]) -> dict[str, str]:
    """Signs that a tokenizer over-segments a language: key -> text."""
    texts = {
        "unknown_share": f"{100 * record['unknown_share']:.0f} % of its tokens are unknown: it cannot be encoded",
        "byte_share": f"{100 * record['byte_share']:.0f} % of its tokens are byte-fallback tokens",
        "cost": f"a character costs {record.get('cost') or 0:.1f} times what it costs in English",
    }
    return {key: text for key, text in texts.items() if (record.get(key) or 0) >= LIMITS[key]}


def _of_runs(runs: Sequence[Run], alone: bool) -> list[Tokenizer]:
    """Tokenizers of runs: bases with equal numbers share one; a run with new tokens has its own."""
    measured = [run for run in runs if run.results.get("fertility")]
    bases: list[tuple[Run, Languages]] = []
    grown: list[tuple[Run, Languages]] = []
    for run in measured:
        before, after = (run.results["fertility"].get(when) for when in ("before", "after"))
        if before and before not in [languages for _, languages in bases]:
            bases.append((run, before))
        if after:
            grown.append((run, after))
    if alone and len(measured) == len(bases) == len(grown) == 1:
        labels = ["before", "after"]
    else:
        labels = ["base" if len(bases) == 1 else f"base of {run.name}" for run, _ in bases]
        labels += [run.name for run, _ in grown]
    styles = [Style(SOFT, "square", "■")] * len(bases) + [run.style for run, _ in grown]
    names = [run.results.get("base") or run.name for run, _ in bases] + [run.name for run, _ in grown]
    records = [languages for _, languages in (*bases, *grown)]
    return [Tokenizer(*fields) for fields in zip(labels, names, styles, records, strict=True)]


def _of_files(measured: Sequence[dict[str, Languages]], number: int) -> list[Tokenizer]:
    """Tokenizers of fertility files: a model in several files is one tokenizer, unless the files differ."""
    found: list[tuple[str, Languages]] = []
    for model, languages in (pair for by_model in measured for pair in by_model.items()):
        known = [records for name, records in found if name == model]
        same = [records for records in known if all(records.get(code, new) == new for code, new in languages.items())]
        if same:
            same[0].update(languages)
        else:
            found.append((model, dict(languages)))
    names = [name for name, _ in found]
    ends = dict(zip(names, shortest_ends([PurePath(name) for name in names]), strict=True))
    number_of = [names[: i + 1].count(name) if names.count(name) > 1 else "" for i, name in enumerate(names)]
    labels = [f"{ends[name]} {number}".rstrip() for name, number in zip(names, number_of, strict=True)]
    colours = [COLOURS[(number + i) % len(COLOURS)] for i in range(len(found))]
    return [
        Tokenizer(label, public_name(name), Style(colour, "square", "■"), languages)
        for label, colour, (name, languages) in zip(labels, colours, found, strict=True)
    ]


def _is_worth_a_column(key: str, found: Sequence[Tokenizer]) -> bool:
    values = [record.get(key) for tokenizer in found for record in tokenizer.languages.values()]
    return any(value is not None for value in values) if key == "cost" else key == "byte_share" or any(values)


def _figure(found: Sequence[Tokenizer], codes: Sequence[str]) -> Any:
    groups = []
    for code in codes:
        rows = [(tokenizer, tokenizer.languages[code]) for tokenizer in found if code in tokenizer.languages]
        note = "" if language_name(code) == code else escaped(code)
        groups.append(
            BarGroup(language_name(code), note, [_bar(code, tokenizer, record) for tokenizer, record in rows])
        )
    return bars(groups)


def _bar(code: str, tokenizer: Tokenizer, record: dict[str, Any]) -> Bar:
    hover = (
        f"<b>{escaped(language_name(code))}</b><br>{escaped(tokenizer.label)}<br>"
        f"{record['bytes_per_token']:.2f} bytes per token<br>{record['tokens_per_word']:.2f} tokens per word"
    )
    return Bar(tokenizer.label, tokenizer.style.colour, record["bytes_per_token"], bool(signs(record)), hover)


def _rows(found: Sequence[Tokenizer], codes: Sequence[str], columns: Sequence[str], shared: bool) -> list[Row]:
    rows = []
    for code in codes:
        here = [tokenizer for tokenizer in found if code in tokenizer.languages]
        if shared:
            rows.append(
                Row(code, None, [[_cell(tokenizer.languages[code], key) for tokenizer in here] for key in columns], 1)
            )
        else:
            below = [len(here), *[0] * (len(here) - 1)]
            cells = [[[_cell(tokenizer.languages[code], key)] for key in columns] for tokenizer in here]
            rows += [Row(code, *fields) for fields in zip(here, cells, below, strict=True)]
    return rows


def _cell(record: dict[str, Any], key: str) -> Cell:
    value = record.get(key)
    if value is None:
        return Cell("–")
    text = f"{100 * value:.1f} %" if key in ("byte_share", "unknown_share") else f"{value:.2f}"
    return Cell(text, value, "lost" if value >= LIMITS.get(key, float("inf")) else "")


def _warnings(found: Sequence[Tokenizer], codes: Sequence[str]) -> list[dict[str, Any]]:
    """Languages that a tokenizer over-segments; `mended` where the run's new tokens resolve it."""
    grown = found[1] if [tokenizer.label for tokenizer in found] == ["before", "after"] else None
    after = {code: signs(record) for code, record in grown.languages.items()} if grown else {}
    return [
        {
            "code": code,
            "tokenizer": tokenizer,
            "signs": list(signs_of.values()),
            "mended": tokenizer is not grown and after.get(code) == {},
        }
        for code in codes
        for tokenizer in found
        if code in tokenizer.languages and (signs_of := signs(tokenizer.languages[code]))
    ]
