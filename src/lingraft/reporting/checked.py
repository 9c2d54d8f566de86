"""Read JSON for the report, and check that its numbers are finite and its form matches the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from lingraft.errors import UserError
from lingraft.plain_data import unbounded, unusable_values
from lingraft.schema import Fertilities, Origin, Results, Training, problem

LARGEST = 1e15
"""Largest absolute value of a number: above any count, and its square is finite."""
_SHOWN = 40


def read_schema(path: Path, form: type[Results | Fertilities], kind: str) -> dict[str, Any]:
    """Read a file with a `schema` key, in the words of this version; `kind` names the file in messages.

    Raises:
        UserError: it is another kind of file, or has another schema.
    """
    value = read_object(path)
    wrong = f"{path}: this is not a {kind} of lingraft"
    if value is None or "schema" not in value:
        raise UserError(
            f"{wrong}; give the folder of a run, a file of 'lingraft evaluate' or of 'lingraft tokenizer fertility'"
        )
    if value["schema"] != 1:
        raise UserError(f"{path}: a {kind} of schema {value['schema']}; this version reads schema 1")
    if found := problem(form, value):
        raise UserError(f"{wrong} ({found})")
    return form.model_validate(value).to_json()


def read_beside(file: Path, name: str, form: type[Origin | Training]) -> dict[str, Any]:
    """Read a JSON file of the same run; empty where there is none, as for `lingraft evaluate`."""
    path = file.parent / name
    if file.name != "results.json" or not path.is_file():
        return {}
    value = read_object(path)
    found = "no object of JSON" if value is None else problem(form, value)
    if value is None or found:
        raise UserError(f"{path}: this is not a file of lingraft ({found}); take it away or restore it")
    return value


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON object whose values can all be drawn; `None` where the file holds something else.

    Raises:
        UserError: a number that is not finite, invalid Unicode, or nesting that is too deep; says where.
    """

    def refuse(number: str) -> NoReturn:
        shown = number if len(number) <= _SHOWN else f"{number[:_SHOWN]}…"
        raise UserError(f"{path}: {shown} is not a number that can be drawn; lingraft writes none such")

    def drawable(number: str) -> float:
        return value if abs(value := float(number)) <= LARGEST else refuse(number)

    def drawable_int(number: str) -> int:
        return int(number) if len(number) <= _SHOWN and abs(int(number)) <= LARGEST else refuse(number)

    try:
        value = json.loads(
            path.read_text(encoding="utf-8"), parse_constant=refuse, parse_float=drawable, parse_int=drawable_int
        )
        problem = unbounded(value)
    except ValueError:
        return None
    except RecursionError:
        problem = "values are nested too deeply"
    if problem:
        raise UserError(f"{path}: {problem}; lingraft writes none such")
    for place, problem in unusable_values(value, names_files=False):
        raise UserError(f"{path}: {'.'.join(map(str, place))[:200]}: {problem}; lingraft writes none such")
    return value if isinstance(value, dict) else None
