"""Run a diagnosis and draw it: a JSON file, and a page beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.cache import read_record, write_json, write_text
from lingraft.diagnosis.alignment import alignment_of
from lingraft.diagnosis.drift import drift
from lingraft.diagnosis.finished_run import FinishedRun
from lingraft.diagnosis.interpolation import costs, interpolation
from lingraft.errors import UserError, nearest
from lingraft.output_paths import file_target
from lingraft.reporting.figures import Figure, curves
from lingraft.reporting.page import GENERATOR, render
from lingraft.reporting.read import GROUPS, language_name

_PAGE = b'<meta name="diagnosis">'
DIAGNOSES = ("drift", "interpolation", "alignment")


def diagnose_run(
    what: str,
    run: Path | str,
    out: Path | str,
    first: int | None = None,
    last: int | None = None,
    max_documents: int | None = None,
    pairs: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """As `lingraft.diagnose`."""
    if what not in DIAGNOSES:
        raise UserError(f"diagnose {what}: allowed are {', '.join(DIAGNOSES)}{nearest(what, DIAGNOSES)}")
    target = file_target(out, _is_diagnosis, [run])
    if target.suffix != ".json":
        raise UserError(f"--out {target}: the diagnosis is JSON, with a page beside it; give a name that ends in .json")
    page = file_target(target.with_suffix(".html"), _is_page, [run])
    if what == "alignment":
        if not pairs:
            raise UserError("diagnose alignment: give pairs of sentences, as in --pairs eng_Latn:eng,swh_Latn:swh=FILE")
        found = alignment_of(Path(run), pairs)
    else:
        finished = FinishedRun(Path(run).resolve())
        measured = (
            drift(finished) if what == "drift" else interpolation(finished, first, last, max_documents=max_documents)
        )
        found = {"run": finished.folder.name, "base": finished.base.folder.name, **measured}
    result = {"schema": 1, "diagnosis": what, **found}
    write_json(target, result)
    write_text(page, draw_diagnosis(result))
    return result


def _is_diagnosis(path: Path) -> bool:
    return "diagnosis" in (read_record(path) or {})


def _is_page(path: Path) -> bool:
    """Whether a page is of a diagnosis: a report of runs is not written over."""
    with path.open("rb") as file:
        beginning = file.read(4000)
    return GENERATOR in beginning and _PAGE in beginning


def draw_diagnosis(result: dict[str, Any]) -> str:
    """The HTML of a diagnosis."""
    draw = {"drift": _drift, "interpolation": _interpolation, "alignment": _alignment}[result["diagnosis"]]
    figures, tables = draw(result)
    return render("diagnosis.html", result=result, figures=figures, tables=tables)


Table = dict[str, Any]


def _drift(result: dict[str, Any]) -> tuple[list[tuple[str, Figure]], list[Table]]:
    lines = {
        kind: [(float(layer), 100 * share) for layer, share in enumerate(shares)]
        for kind, shares in result["layers"].items()
        if any(shares)
    }
    title = "Distance from the base by layer, in percent of the base's own norm"
    drawn = [(title, curves(lines, list(lines), across="layer", unit="%", height=360))] if lines else []
    rows = [[GROUPS.get(group, group), f"{100 * share:.3f} %"] for group, share in result["groups"].items()]
    return drawn, [{"title": "By layer group", "head": ["layer group", "drift"], "rows": rows}]


def _alignment(result: dict[str, Any]) -> tuple[list[tuple[str, Figure]], list[Table]]:
    figures, rows, titles = list[tuple[str, Figure]](), list[list[str]](), list[str]()
    for name, of_model in result["models"].items():
        titles = list(of_model["scores"])
        lines = {
            title: [(float(layer), 100 * share) for layer, share in enumerate(of)]
            for title, of in of_model["scores"].items()
        }
        drawn = curves(lines, titles, across="layer", unit="%", height=360)
        figures.append((f"{name}: aligned pairs by layer, in percent; 0 are the embeddings", drawn))
        most = [f"{100 * max(of):.0f} %" for of in of_model["scores"].values()]
        rows.append([name, *most, _groups(of_model["proposed"])])
    head = ["model", *(f"{title}, most" for title in titles), "layer groups proposed"]
    return figures, [{"title": "Alignment", "head": head, "rows": rows}]


def _groups(proposed: Mapping[str, int] | None) -> str:
    if proposed is None:
        return "none: too few pairs are aligned"
    return f"{proposed['first']} first and {proposed['last']} last of {proposed['depth']}"


def _interpolation(result: dict[str, Any]) -> tuple[list[tuple[str, Figure]], list[Table]]:
    figures, tables = list[tuple[str, Figure]](), list[Table]()
    titles = dict.fromkeys(title for curve in result["groups"].values() for title in curve[0] if title != "alpha")
    for title in titles:
        factor, unit = (1.0, "bits per byte") if title == "bits per byte" else (100.0, "%")
        codes = dict.fromkeys(code for curve in result["groups"].values() for code in curve[0][title])
        for code in codes:
            lines = {
                GROUPS.get(group, group): [(point["alpha"], factor * point[title][code]) for point in curve]
                for group, curve in result["groups"].items()
            }
            name = f"{language_name(code)} ({result['roles'].get(code, 'observe')}), {title}"
            figures.append((name, curves(lines, list(lines), across="alpha", unit=unit, height=300)))
        head = ["layer group", *(language_name(code) for code in codes)]
        of_codes = {code: costs(result, title, code) for code in codes}
        rows = [
            [GROUPS.get(group, group), *(f"{factor * of_codes[code][group]:+.4f}" for code in codes)]
            for group in result["groups"]
        ]
        caption = f"What the movement of a group does to {title}: the result less the result with the group of the base"
        tables.append({"title": caption, "head": head, "rows": rows})
    return figures, tables
