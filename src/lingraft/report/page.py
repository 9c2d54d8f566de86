"""Folders of results -> `report.html`; the page asks nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lingraft.artefacts import check_file_target, read_json, write_text
from lingraft.errors import UserError
from lingraft.languages import parse_language

GROUP_TITLES = {
    "embeddings": "embeddings",
    "first": "first layers",
    "middle": "middle layers",
    "last": "last layers",
    "final_norm": "final norm",
    "head": "head",
    "outside": "outside the language model",
}


def report(folders: Sequence[Path | str], out: Path | str) -> None:
    """Draw the results of one or more folders (or `results.json` files) on one page.

    Raises:
        UserError: a folder without results, or results of another schema.
    """
    check_file_target(Path(out))
    environment = Environment(
        loader=PackageLoader("lingraft.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["percent"] = lambda share: f"{100 * share:+.1f} %"
    environment.filters["thousands"] = lambda number: f"{number:,}"
    runs = [_run(Path(folder)) for folder in folders]
    write_text(Path(out), environment.get_template("report.html").render(runs=runs))


def _run(folder: Path) -> dict[str, Any]:
    """All that the page shows of one folder."""
    file = folder / "results.json" if folder.is_dir() else folder
    if not file.is_file():
        raise UserError(
            f"{folder}: there is no results.json; give the folder of a run, or a file of 'lingraft evaluate'"
        )
    try:
        results = read_json(file)
        if results["schema"] != 1:
            raise UserError(f"{file}: results of schema {results['schema']}; this version reads schema 1")
        languages, _ = results["languages"], results["measured"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: this is not a results file of lingraft") from None
    origin_file = file.parent / "lingraft.json"
    recipe_file = file.parent / "recipe.resolved.yaml"
    origin = read_json(origin_file) if file.name == "results.json" and origin_file.is_file() else None
    return {
        "name": file.parent.resolve().name if file.name == "results.json" else file.stem,
        "results": results,
        "languages": [_language(code, entry) for code, entry in _by_role(languages)],
        "origin": origin,
        "groups": _groups(origin) if origin else [],
        "recipe": recipe_file.read_text(encoding="utf-8") if origin and recipe_file.is_file() else None,
    }


def _by_role(languages: dict[str, Any]) -> list[tuple[str, Any]]:
    order = ["learn", "retain", "heldout"]
    return sorted(languages.items(), key=lambda item: (order.index(item[1]["role"]), item[0]))


def _language(code: str, entry: dict[str, Any]) -> dict[str, Any]:
    bits = entry["bits_per_byte"]
    change = bits["after"] / bits["before"] - 1 if "before" in bits else None
    return {**entry, "code": code, "name": parse_language(code).name.split(" (")[0], "change": change}


def _groups(origin: dict[str, Any]) -> list[dict[str, Any]]:
    """Per layer group: weights of the base, weights that trained, and their share of the group."""
    base, trained = origin["weights"]["base"], origin["weights"]["trained"]
    return [
        {
            "title": GROUP_TITLES[group],
            "base": size,
            "trained": trained.get(group, 0),
            "share": min(1.0, trained.get(group, 0) / size),
        }
        for group, size in base.items()
    ]
