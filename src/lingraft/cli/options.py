"""Parse options with several values."""

from __future__ import annotations

from typing import Annotated

import typer

from lingraft.errors import UserError

Split = Annotated[
    str | None,
    typer.Option(
        help="What a document of plain text (.txt) is: paragraphs (the lines between blank lines), lines or file; "
        "paragraphs by default."
    ),
]
FILES = "Files are .jsonl, .json, .parquet or .txt; all but .parquet also .gz, .bz2, .xz, .zst."


def example(line: str) -> str:
    """The example below the options in `--help`."""
    return f"Example: {line}"


def pairs(values: list[str], option: str) -> dict[str, list[str]]:
    """`swh_Latn=FILE` options, one or more per language."""
    found: dict[str, list[str]] = {}
    for value in values:
        code, equals, file = value.partition("=")
        if not equals or not code or not file:
            raise UserError(
                f"{option} {value}: this option is {option} LANGUAGE=FILE, as in {option} swh_Latn=text.jsonl"
            )
        found.setdefault(code, []).append(file)
    return found


LearnedText = Annotated[
    list[str] | None, typer.Option("--text", help=f"Files of the learned language, or LANGUAGE=FILES. {FILES}")
]
Retained = Annotated[
    list[str] | None,
    typer.Option("--retain", help="Languages to keep, as in eng_Latn,spa_Latn, or LANGUAGE=FILE."),
]
ForGoal = Annotated[str, typer.Option("--goal", help="comprehension, translation, balanced or coverage.")]


def tasks(values: list[str]) -> dict[str, dict[str, list[str]]]:
    """`NAME:swh_Latn=FILE` options, one or more per task and language."""
    found: dict[str, dict[str, list[str]]] = {}
    for value in values:
        name, _, rest = value.partition(":")
        code, _, file = rest.partition("=")
        if not (name and code and file):
            raise UserError(
                f"--task {value}: this option is --task NAME:LANGUAGE=FILE, as in --task cloze:swh_Latn=questions.jsonl"
            )
        found.setdefault(name, {}).setdefault(code, []).append(file)
    return found


def sentences(values: list[str]) -> dict[str, str]:
    """`eng_Latn:eng,swh_Latn:swh=FILE` options: languages with their fields -> a file."""
    found = {}
    for value in values:
        languages, equals, file = value.rpartition("=")
        if not (equals and languages and file):
            raise UserError(f"--pairs {value}: this option is --pairs LANGUAGE:FIELD,LANGUAGE:FIELD=FILE")
        found[languages] = file
    return found


def codes(values: str) -> list[str]:
    """Split `swh_Latn,glg_Latn`."""
    return [code for code in values.split(",") if code]


def kept(values: list[str]) -> dict[str, list[str] | None]:
    """`eng_Latn,spa_Latn` and `eng_Latn=FILE` options: language -> its files, or None."""
    found: dict[str, list[str] | None] = {}
    for value in values:
        code, equals, file = value.partition("=")
        if not equals:
            found |= dict.fromkeys(codes(value))
        elif code and file:
            found[code] = [*(found.get(code) or []), file]
        else:
            raise UserError(f"--retain {value}: this option is --retain LANGUAGES, or --retain LANGUAGE=FILE")
    return found


def files(values: list[str]) -> list[str] | dict[str, list[str]]:
    """`FILE` options, or `swh_Latn=FILE` options."""
    return pairs(values, "--text") if any("=" in value for value in values) else values
