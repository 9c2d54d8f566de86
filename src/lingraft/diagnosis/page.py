"""Run a diagnosis and draw it: a JSON file, and a page beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.cache import read_record, write_json, write_text
from lingraft.diagnosis.alignment import ALIGNMENT
from lingraft.diagnosis.base import Settings
from lingraft.diagnosis.drift import DRIFT
from lingraft.diagnosis.gates import GATES
from lingraft.diagnosis.interpolation import INTERPOLATION
from lingraft.diagnosis.lens import LENS
from lingraft.errors import UserError, nearest
from lingraft.output_paths import file_target
from lingraft.reporting.page import GENERATOR, render

_PAGE = b'<meta name="diagnosis">'
DIAGNOSES = {diagnosis.name: diagnosis for diagnosis in (DRIFT, INTERPOLATION, LENS, GATES, ALIGNMENT)}


def diagnose_run(what: str, run: Path | str, out: Path | str, settings: Settings) -> dict[str, Any]:
    """As `lingraft.diagnose`."""
    if what not in DIAGNOSES:
        raise UserError(f"diagnose {what}: allowed are {', '.join(DIAGNOSES)}{nearest(what, DIAGNOSES)}")
    target = file_target(out, _is_diagnosis, [run])
    if target.suffix != ".json":
        raise UserError(f"--out {target}: the diagnosis is JSON, with a page beside it; give a name that ends in .json")
    page = file_target(target.with_suffix(".html"), _is_page, [run])
    result = {"schema": 1, "diagnosis": what, **DIAGNOSES[what].measure(Path(run), settings)}
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
    diagnosis = DIAGNOSES[result["diagnosis"]]
    figures, tables = diagnosis.draw(result)
    return render("diagnosis.html", result=result, lede=diagnosis.lede(result), figures=figures, tables=tables)
