"""The folders of runs, read and told apart: everything but `results.json` may be missing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from lingraft.errors import UserError
from lingraft.languages import parse_language
from lingraft.report.forms import Origin, Results, Training, problem

ROLES = {"learn": "learned", "retain": "retained", "heldout": "held out"}
GROUPS = {
    "embeddings": "embeddings",
    "first": "first layers",
    "middle": "middle layers",
    "last": "last layers",
    "final_norm": "final norm",
    "head": "head",
    "outside": "outside the language model",
}
"""Layer groups as the page calls them."""

COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's, without those that cannot be seen on white or on black, and without the colour of loss."""
SYMBOLS = {"circle": "●", "square": "■", "diamond": "◆", "cross": "✚", "star": "★", "hexagon": "⬢", "x": "✖\ufe0e"}


class Style(NamedTuple):
    """How a run looks wherever it is drawn; the glyph is the symbol in a line of text."""

    colour: str
    symbol: str
    glyph: str


@dataclass(frozen=True)
class Run:
    """One folder, or one results file, as it was read."""

    name: str
    label: str
    """The method where that tells the runs apart."""
    anchor: str
    style: Style
    results: dict[str, Any]
    origin: dict[str, Any]
    """`lingraft.json`; empty where there is none."""
    training: dict[str, Any]
    recipe: str | None

    @property
    def method(self) -> str | None:
        name: str | None = self.origin.get("method", {}).get("name")
        return name

    @property
    def languages(self) -> dict[str, Any]:
        """Measured languages by code: learned, retained, held out."""
        return by_role(self.results["languages"])

    @property
    def tasks(self) -> dict[str, Any]:
        return self.results.get("tasks") or {}


def read_runs(folders: Sequence[Path | str]) -> list[Run]:
    """The runs of the given folders or results files, in that order.

    Raises:
        UserError: a folder without results, or a file that is not what its name says.
    """
    files = [_results_file(Path(folder)) for folder in folders]
    results = [_results(file) for file in files]
    origins = [_beside(file, "lingraft.json", Origin) for file in files]
    names = _names(files)
    methods = [origin.get("method", {}).get("name") for origin in origins]
    styles = _styles([method or name for method, name in zip(methods, names, strict=True)])
    return [
        Run(
            name=name,
            label=_label(name, method, methods),
            anchor=f"run-{i + 1}",
            style=styles[i],
            results=results[i],
            origin=origins[i],
            training=_beside(files[i], "training.json", Training),
            recipe=_recipe(files[i]),
        )
        for i, (name, method) in enumerate(zip(names, methods, strict=True))
    ]


def by_role(languages: dict[str, Any]) -> dict[str, Any]:
    """The same entries: learned languages first, then retained, then held-out ones."""
    order = list(ROLES)
    return dict(sorted(languages.items(), key=lambda item: (order.index(item[1]["role"]), item[0])))


def language_name(code: str) -> str:
    """`Swahili` of `swh_Latn`; a code of private use, or one that no standard has, stands for itself."""
    try:
        name = parse_language(code).name.split(" (")[0]
    except UserError:
        return code
    return code if name.startswith("private-use language") else name


def _results_file(path: Path) -> Path:
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{path}: there is no results.json; give the folder of a run, or a file of 'lingraft evaluate'")
    return file.resolve()


def _results(file: Path) -> dict[str, Any]:
    results = _read(file)
    wrong = f"{file}: this is not a results file of lingraft"
    if results is None or "schema" not in results:
        raise UserError(wrong)
    if results["schema"] != 1:
        raise UserError(f"{file}: results of schema {results['schema']}; this version reads schema 1")
    if found := problem(Results, results):
        raise UserError(f"{wrong} ({found})")
    return results


def _beside(file: Path, name: str, form: type[Origin | Training]) -> dict[str, Any]:
    """A JSON file of the same run; empty where there is none, and beside a file of `lingraft evaluate`."""
    path = file.parent / name
    if file.name != "results.json" or not path.is_file():
        return {}
    value = _read(path)
    found = "no object of JSON" if value is None else problem(form, value)
    if value is None or found:
        raise UserError(f"{path}: this is not a file of lingraft ({found}); take it away or restore it")
    return value


def _read(path: Path) -> dict[str, Any] | None:
    """An object of JSON whose numbers are all finite; `None` where the file holds something else."""

    def refuse(number: str) -> NoReturn:
        raise UserError(f"{path}: {number} is not a number that can be drawn; lingraft writes none such")

    def finite(number: str) -> float:
        return value if math.isfinite(value := float(number)) else refuse(number)

    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse, parse_float=finite)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _recipe(file: Path) -> str | None:
    path = file.parent / "recipe.resolved.yaml"
    return path.read_text("utf-8", "replace") if file.name == "results.json" and path.is_file() else None


def _names(files: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell the runs apart: `layra`, or `seed1/layra`."""
    paths = [file.parent if file.name == "results.json" else file.with_suffix("") for file in files]
    names = [path.name for path in paths]
    for parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            break
    return names


def _label(name: str, method: str | None, methods: Sequence[str | None]) -> str:
    if method is None:
        return name
    if Counter(methods)[method] == 1:
        return method
    return name if method in name else f"{method} {name}"


def _styles(methods: Sequence[str]) -> list[Style]:
    """A colour and a symbol for each run; for each method, where there are more runs than colours."""
    number = {method: i for i, method in enumerate(dict.fromkeys(methods))}
    numbers = [number[method] for method in methods] if len(methods) > len(COLOURS) else range(len(methods))
    symbols = list(SYMBOLS.items())
    return [Style(COLOURS[i % len(COLOURS)], *symbols[i % len(symbols)]) for i in numbers]
