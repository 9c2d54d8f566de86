"""Write `report.html` from folders of results and fertility files; it loads nothing from the network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lingraft.cache import write_text
from lingraft.errors import UserError
from lingraft.evaluation import ALIGNMENT, COPYING, RULE
from lingraft.output_paths import file_target
from lingraft.reporting.figures import Figure, plane
from lingraft.reporting.measured import UNITS, bits, bits_alone, by_examples, metric_of, task
from lingraft.reporting.read import ROLES, Run, language_name, read_files, read_runs
from lingraft.reporting.section import section
from lingraft.reporting.sweep import SweepResults, draw_sweep, is_sweep
from lingraft.reporting.tables import bits_table, task_table
from lingraft.reporting.tokenizers import is_fertility, tokenizers

GENERATOR = b'<meta name="generator" content="lingraft">'
"""In the head of every report, to recognize it."""


def write_report(folders: Sequence[Path | str], out: Path | str) -> None:
    """As `lingraft.report`."""
    target = file_target(out, _is_page, [path for folder in folders for path in read_files(Path(folder))])
    sweeps = [folder for folder in map(Path, folders) if is_sweep(folder)]
    if sweeps and len(folders) > 1:
        raise UserError(f"{sweeps[0]} is a sweep, which has a report of its own; give it alone")
    write_text(target, draw_sweep(SweepResults.read(sweeps[0])) if sweeps else draw_page(folders))


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return GENERATOR in file.read(2000)


def draw_page(folders: Sequence[Path | str]) -> str:
    """The HTML of the report."""
    if not folders:
        raise UserError("there is nothing to draw; give folders of runs, results files or fertility files")
    of_tokenizers = [path for path in map(Path, folders) if is_fertility(path)]
    runs = read_runs([path for path in map(Path, folders) if path not in of_tokenizers])
    shown = _page(runs) | {"tokenizers": tokenizers(runs, of_tokenizers)}
    if not runs and not shown["tokenizers"]:
        raise UserError(f"{', '.join(map(str, folders))}: there is no language in these fertility files")
    return render("report.html", **shown)


def render(template: str, **shown: Any) -> str:
    """A page with its scripts."""
    return _environment().get_template(template).render(**shown, **_scripts())


@cache
def _environment() -> Environment:
    """The jinja2 environment, built once, so that templates are compiled once."""
    environment = Environment(
        loader=PackageLoader("lingraft.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:+.1f} %"
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}"
    environment.filters["thousands"] = lambda number: f"{number:,.0f}"
    environment.filters["figure_json"] = _figure_json
    environment.filters["language_name"] = language_name
    return environment


def _page(runs: list[Run]) -> dict[str, Any]:
    """The values of the report's template."""
    placed = [run for run in runs if {"learning", "forgetting"} <= run.results.keys()]
    tasks = list(dict.fromkeys(name for run in runs for name, results in run.tasks.items() if results.get("languages")))
    return {
        "runs": runs,
        "roles": ROLES,
        "bases": list(dict.fromkeys(run.results["base"] for run in runs if run.results.get("base"))),
        "languages": _languages(runs),
        "verdict": _verdict(placed),
        "plane": plane(placed) if placed else None,
        "not_placed": [run for run in runs if run not in placed],
        "most": max((run.results.get(name, 0) for run in runs for name in ("learning", "forgetting")), default=0),
        "bits": {role: figure for role in ROLES if (figure := bits(runs, role))},
        "bits_alone": bits_alone(runs),
        "bits_table": bits_table(runs),
        "copying": COPYING,
        "alignment": ALIGNMENT,
        "tasks": {name: {"figure": task(runs, name), "table": task_table(runs, name)} for name in tasks},
        "rule": by_examples(runs, RULE),
        "has_scores": any(metric_of(runs, name) in UNITS for name in tasks),
        "lacking": _lacking(runs),
        "telling_nothing": _telling_nothing(runs, tasks),
        "sections": [section(run) for run in runs],
    }


def _telling_nothing(runs: Sequence[Run], tasks: Sequence[str]) -> list[str]:
    """Tasks, with their languages, in which no model is better than guessing."""
    found = []
    for name in tasks:
        above: dict[str, list[bool]] = {}
        for run in runs:
            for code, of in run.tasks.get(name, {}).get("languages", {}).items():
                above.setdefault(code, []).append(of.get("above_chance", True))
        if codes := [code for code, of_code in above.items() if not any(of_code)]:
            found.append(f"{name} ({', '.join(map(language_name, codes))})")
    return found


def _lacking(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Tasks of suites that were not measured in a language, with the languages and the reason, each once."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for run in runs:
        for task_name, reasons in (run.results.get("lacking") or {}).items():
            for code, why in reasons.items():
                found.setdefault((task_name, why), {})[language_name(code)] = None
    return [(name, f"{', '.join(languages)} ({why})") for (name, why), languages in found.items()]


def _languages(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Codes of the measured languages by role, each once."""
    roles: dict[str, dict[str, None]] = {role: {} for role in ROLES}
    for run in runs:
        for code, entry in run.languages.items():
            roles[entry["role"]][code] = None
    return {role: list(codes) for role, codes in roles.items() if codes}


def _verdict(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The runs that learn most and forget least, each once, with that description."""
    found: dict[str, dict[str, Any]] = {}
    if len(runs) > 1:
        for sum_, best, sign in (("forgetting", "forgets least", -1), ("learning", "learns most", 1)):
            run = max(runs, key=lambda run: sign * run.results[sum_])
            found.setdefault(run.anchor, {"run": run, "best": []})["best"].append(best)
    return list(found.values())


def _scripts() -> dict[str, Any]:
    """The two scripts, and their hashes for the Content-Security-Policy."""
    from plotly.offline import get_plotlyjs  # several MB of text

    page_js = files("lingraft.reporting").joinpath("templates/page.js").read_text(encoding="utf-8")
    scripts = [_in_html(get_plotlyjs()), _in_html(page_js)]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return {"scripts": [Markup(script) for script in scripts], "hashes": hashes}  # noqa: S704 - ours and plotly's


def _in_html(script: str) -> str:
    """A script that cannot end its element, with the line ends that a browser hashes."""
    return script.replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _figure_json(figure: Figure) -> Markup:
    """A figure as JSON for a script element; `<` is escaped, so that it cannot end the element."""
    return Markup(json.dumps(figure, ensure_ascii=False).replace("<", "\\u003c"))  # noqa: S704
