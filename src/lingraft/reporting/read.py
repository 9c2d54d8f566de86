"""Read the folders of runs and label them; every file but `results.json` may be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml

from lingraft.checkpoints.names import without_places
from lingraft.errors import UserError
from lingraft.languages import BETWEEN, parse_language
from lingraft.reporting.checked import read_beside, read_schema
from lingraft.reporting.stages import Stage, method_name, stages
from lingraft.schema import Origin, Results, Training

ROLES = {"learn": "learned", "retain": "retained", "observe": "observed"}
GROUPS = {
    "embeddings": "embeddings",
    "first": "first layers",
    "middle": "middle layers",
    "last": "last layers",
    "final_norm": "final norm",
    "head": "head",
    "outside": "outside the language model",
}
"""Layer group -> its title in the report."""

COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito's palette without low-contrast colours and without the colour of loss."""
SYMBOLS = {"circle": "●", "square": "■", "diamond": "◆", "cross": "✚", "star": "★", "hexagon": "⬢", "x": "✖\ufe0e"}


_BESIDE = ("lingraft.json", "training.json")
_FILES = ("results.json", *_BESIDE, "recipe.resolved.yaml")


class Style(NamedTuple):
    """The colour and symbol of a run; the glyph is the symbol in text."""

    colour: str
    symbol: str
    glyph: str


@dataclass(frozen=True)
class Run:
    """One run: a folder, or a results file."""

    name: str
    label: str
    """The method, where it is unique among the runs; else the name."""
    anchor: str
    style: Style
    results: dict[str, Any]
    origin: dict[str, Any]
    """`lingraft.json`; empty where there is none."""
    training: dict[str, Any]
    recipe: str | None

    @cached_property
    def stages(self) -> list[Stage]:
        return stages(self.origin, self.training)

    @property
    def method(self) -> str | None:
        """The method's name; for a run of several stages, the names of the stages."""
        return method_name(self.stages)

    @property
    def weights_trained(self) -> int | None:
        """The most parameters that one stage trained; `None` where unknown."""
        trained = [stage.origin["weights"]["trained"] for stage in self.stages if "weights" in stage.origin]
        return max((sum(weights.values()) for weights in trained), default=None)

    @property
    def tokens(self) -> int | None:
        """Tokens of all stages; `None` where unknown."""
        tokens = [stage.origin["tokens"] for stage in self.stages if "tokens" in stage.origin]
        return sum(tokens) if tokens else None

    @property
    def before_documents(self) -> str:
        """What stood before each measured document, and what `tokenizer(text)` puts there where that differs."""
        measured = self.results["measured"]
        before, plain = measured.get("before"), measured.get("plain")
        shown = f"{before} before each document" if before else "with BOS" if measured["bos"] else "without BOS"
        if not before or before == plain:
            return shown
        return f"{shown}, where a plain tokenizer(text) puts {plain or 'nothing'}"

    @property
    def languages(self) -> dict[str, Any]:
        """Measured languages by code: learned, retained, observed."""
        return by_role(self.results["languages"])

    @property
    def tasks(self) -> dict[str, Any]:
        return self.results.get("tasks") or {}


def read_runs(folders: Sequence[Path | str]) -> list[Run]:
    """The runs of the given folders or results files, in that order.

    Raises:
        UserError: a folder without results, or a file of another form.
    """
    files = [_results_file(Path(folder)) for folder in folders]
    results = [_named(read_schema(file, Results, "results file")) for file in files]
    origins = [without_places(read_beside(file, "lingraft.json", Origin)) for file in files]
    logs = [read_beside(file, "training.json", Training) for file in files]
    names = shortest_ends([file.parent if file.name == "results.json" else file.with_suffix("") for file in files])
    methods = [method_name(stages(origin, log)) for origin, log in zip(origins, logs, strict=True)]
    styles = _styles([method or name for method, name in zip(methods, names, strict=True)])
    return [
        Run(
            name=name,
            label=_label(name, method, methods),
            anchor=f"run-{i + 1}",
            style=styles[i],
            results=results[i],
            origin=origins[i],
            training=logs[i],
            recipe=_recipe(files[i]),
        )
        for i, (name, method) in enumerate(zip(names, methods, strict=True))
    ]


def by_role(languages: dict[str, Any]) -> dict[str, Any]:
    """The same entries: learned languages first, then retained, then observed."""
    order = list(ROLES)
    return dict(sorted(languages.items(), key=lambda item: (order.index(item[1]["role"]), item[0])))


def language_name(code: str) -> str:
    """The name of a language: `Swahili` for `swh_Latn`; a private-use or unknown code is its own name.

    Pairs have both names, as in `English–Swahili`.
    """
    if BETWEEN in code:
        return BETWEEN.join(map(language_name, code.split(BETWEEN)))
    try:
        name = parse_language(code).name.split(" (")[0]
    except UserError:
        return code
    return code if name.startswith("private-use language") else name


def _results_file(path: Path) -> Path:
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{path}: there is no results.json; give the folder of a run, a file of 'lingraft evaluate' or of "
            "'lingraft tokenizer fertility'"
        )
    return file.resolve()


def _named(results: dict[str, Any]) -> dict[str, Any]:
    """Results with names in place of the paths of models."""
    named = {key: without_places(value) if key in ("base", "model") else value for key, value in results.items()}
    if named.get("instruct"):
        named["instruct"] = {**named["instruct"], "base": without_places(named["instruct"]["base"])}
    return named


def read_files(given: Path) -> list[Path]:
    """The files that are read for a run's folder or results file."""
    return [given / name for name in _FILES] if given.is_dir() else [given, *(given.parent / name for name in _BESIDE)]


def _recipe(file: Path) -> str | None:
    """The recipe with names in place of paths, since a report is shared."""
    path = file.parent / "recipe.resolved.yaml"
    if file.name != "results.json" or not path.is_file():
        return None
    text = path.read_text("utf-8", "replace")
    try:
        return str(yaml.safe_dump(without_places(yaml.safe_load(text)), sort_keys=False, allow_unicode=True))
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def shortest_ends(paths: Sequence[PurePath]) -> list[str]:
    """The shortest unique suffixes of paths: `layra`, or `seed1/layra`."""
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
