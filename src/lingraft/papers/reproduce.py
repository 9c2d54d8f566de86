"""Reproduce a table of a paper: its rows as one sweep, and the paper's figures beside ours."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lingraft.cache import cached, read_record, write_json, write_text
from lingraft.disk import locked
from lingraft.errors import OutputError, UserError, nearest
from lingraft.evaluation.spearman import spearman
from lingraft.output_paths import folder_target
from lingraft.papers.table import OLD_TEXT, SIZES, PaperTable, Row, Size, read_table
from lingraft.pipeline.sweep import run_sweep
from lingraft.recipe.paths import unshared
from lingraft.recipe.sweep import SEED, SWEEP, points_of, read_sweep
from lingraft.reporting.figures import Figure, axis, escaped, label, layout, points
from lingraft.reporting.page import render
from lingraft.reporting.read import COLOURS, SYMBOLS, Style
from lingraft.reporting.sweep import MOST_LABELS

logger = logging.getLogger(__name__)

RECORD, RECIPE, RUNS, TABLE, PAGE = "reproduce.json", "recipe.yaml", "runs", "table.json", "table.html"
SMALL_TOKENS = 100_000
FEWEST = 3
"""Rows with figures of the paper from which orders are compared."""
LIKE = 0.5
"""Rank correlation from which an order counts as the same, or as the opposite."""


def reproduce_table(name: str, out: Path | str, size: Size = "testbed", seeds: int = 1) -> dict[str, Any]:
    """As `lingraft.reproduce`."""
    table = read_table(name)
    _check_size(table, name, size)
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: give one or more")
    folder = folder_target(out)
    record = {"table": name, "size": size}
    if folder.is_dir() and any(folder.iterdir()) and read_record(folder / RECORD) != record:
        raise OutputError(f"--out {folder} is not empty and holds no '{name}' of size '{size}'; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        write_json(folder / RECORD, record)  # before anything that takes time, so that a killed run goes on
        recipe = folder / RECIPE
        write_text(recipe, recipe_text(name, size, seeds, folder))
        sweep = read_sweep(recipe)
        assert sweep is not None
        results = run_sweep(recipe, sweep, folder / RUNS)
        groups = {point.name: point.values for point in points_of(sweep, str(recipe))}
        found = compare(table, name, size, by_row(table, size, results, groups))
        write_json(folder / TABLE, found)
        write_text(folder / PAGE, draw(table, found))
    return found


def recipe_text(name: str, size: Size, seeds: int, folder: Path | None) -> str:
    """The sweep of a table as YAML; what a size makes here is made in `folder`, or named only, without one.

    Raises:
        UserError: as `read_table`, or the table has no such size.
    """
    table = read_table(name)
    _check_size(table, name, size)
    common = dict(table.sizes[size])
    recipe = _testbed(common, folder) if size == "testbed" else _small(common, folder) if size == "small" else common
    runs = [{"name": key, **_keys(row, size, recipe)} for key, row in distinct(table, size).items()]
    recipe[SWEEP] = {"runs": runs, **({"grid": {SEED: list(range(seeds))}} if seeds > 1 else {})}
    said = f"{table.title} ({table.source}), size {size}: {SIZES[size]}. {table.note}"
    header = textwrap.indent(textwrap.fill(said, 116), "# ")
    return f"{header}\n{yaml.safe_dump(unshared(recipe), sort_keys=False, allow_unicode=True, width=116)}"


def distinct(table: PaperTable, size: Size) -> dict[str, Row]:
    """Name of a run -> the first row of its settings: at a small size several rows may be the same run."""
    found: dict[str, Row] = {}
    for row in table.rows:
        if all(row.keys(size) != other.keys(size) for other in found.values()):
            found[run_name(row)] = row
    return found


def run_name(row: Row) -> str:
    """A row's name as that of a folder."""
    letters = row.name.replace("α", "alpha").replace("+", "plus-").replace("%", "percent")
    return "-".join("".join(c if c.isalnum() or c in ".-" else " " for c in letters).split())


def by_row(
    table: PaperTable,
    size: Size,
    results: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[tuple[float, float]]]:
    """Row -> learning and forgetting of its runs, one a seed, in percent."""
    found: dict[str, list[tuple[float, float]]] = {}
    of_run = {run: row.name for run, row in distinct(table, size).items()}
    for name, of in results.items():
        (run,) = [run for run in of_run if name == run or name == f"{run}_seed-{values[name].get(SEED)}"]
        found.setdefault(of_run[run], []).append((100 * of["learning"], 100 * of["forgetting"]))
    return found


def compare(
    table: PaperTable, name: str, size: Size, ours: Mapping[str, Sequence[tuple[float, float]]]
) -> dict[str, Any]:
    """The paper's figures beside ours, and how far the orders agree (Spearman's rho, ties at their mean rank)."""
    rows: list[dict[str, Any]] = [
        {
            "row": row.name,
            "paper": {"learned": row.paper[0], "retained": row.paper[1]},
            "learning": float(np.mean([one for one, _ in ours[row.name]])),
            "forgetting": float(np.mean([other for _, other in ours[row.name]])),
            "runs": len(ours[row.name]),
        }
        for row in table.rows
        if row.name in ours
    ]
    compared = {key: _Order.of(table, key, rows) for key in ("learned", "retained")}
    return {
        "schema": 1,
        "table": name,
        "source": table.source,
        "size": size,
        "rows": rows,
        "rho": {key: order.rho for key, order in compared.items()},
        "sentences": [order.sentence for order in compared.values()],
    }


@dataclass(frozen=True)
class _Order:
    """The rows that have one of the paper's figures, by that figure and by ours; more is better in both."""

    key: str
    names: list[str]
    theirs: list[float]
    own: list[float]

    @classmethod
    def of(cls, table: PaperTable, key: str, rows: Sequence[Mapping[str, Any]]) -> _Order:
        sign = 1 if table.better == "higher" else -1
        known = [row for row in rows if row["paper"][key] is not None]
        own = [row["learning"] if key == "learned" else -row["forgetting"] for row in known]
        return cls(key, [row["row"] for row in known], [sign * row["paper"][key] for row in known], own)

    @property
    def rho(self) -> float | None:
        return spearman(self.theirs, self.own) if len(self.names) >= FEWEST else None

    @property
    def sentence(self) -> str:
        """What agrees and what differs."""
        what, rho = self.key.capitalize(), self.rho
        if len(self.names) < FEWEST:
            known = {0: "no figure", 1: "one figure"}.get(len(self.names), f"{len(self.names)} figures")
            return f"{what}: our copy of the paper has {known}, too few to compare an order."
        if rho is None:
            constant = "all rows of the paper" if len(set(self.theirs)) < 2 else "all rows here"
            return f"{what}: {constant} are equal, so there is no order to compare."
        paper, here = (_leaders(self.names, values) for values in (self.theirs, self.own))
        agrees = "as in the paper" if rho >= LIKE else "against the paper's" if rho <= -LIKE else "unlike the paper's"
        both = [name for name in paper if name in here]
        apart = f"{_lead(self.key, paper)} there, {_listed(here)} here"
        leaders = f"{_lead(self.key, both)} in both" if both else apart
        return f"{what}: the order is {agrees} (rho = {rho:+.2f}); {leaders}."


def _leaders(names: Sequence[str], values: Sequence[float]) -> list[str]:
    return [name for name, value in zip(names, values, strict=True) if value == max(values)]


def _lead(key: str, names: Sequence[str]) -> str:
    one, several = {"learned": ("learns most", "learn most"), "retained": ("forgets least", "forget least")}[key]
    return f"{_listed(names)} {one if len(names) == 1 else several}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def draw(table: PaperTable, found: Mapping[str, Any]) -> str:
    """The HTML: both planes, the table, and what differs."""
    rows, symbols = found["rows"], list(SYMBOLS.items())
    styles = {
        row["row"]: Style(COLOURS[i % len(COLOURS)], *symbols[i // len(COLOURS) % len(symbols)])
        for i, row in enumerate(rows)
    }
    return render("table.html", table=table, found=found, sizes=SIZES, figures=_planes(table, rows, styles))


def _planes(table: PaperTable, rows: Sequence[Mapping[str, Any]], styles: Mapping[str, Style]) -> list[Any]:
    """The paper's plane and ours, turned so that better is up and to the left in both."""
    lower = table.better == "lower"
    known = [row for row in rows if None not in row["paper"].values()]
    theirs = [(row["paper"]["retained"], row["paper"]["learned"]) for row in known]
    own = [(row["forgetting"], row["learning"]) for row in rows]
    titles = (table.retained, table.learned)
    paper = [("The paper", _plane(theirs, titles, known, styles, across=not lower, up=lower))] if known else []
    return [
        *paper,
        ("Here", _plane(own, ("forgetting, %", "learning, %"), rows, styles)),
    ]


def _plane(
    places: Sequence[tuple[float, float]],
    titles: tuple[str, str],
    rows: Sequence[Mapping[str, Any]],
    styles: Mapping[str, Style],
    across: bool = False,
    up: bool = False,
) -> Figure:
    """A point for each row; `across` and `up` say whether an axis is reversed."""
    names = [row["row"] for row in rows]
    data = [
        points(escaped(name, 28), [x], [y], styles[name], [_hover(name, x, y)])
        for name, (x, y) in zip(names, places, strict=True)
    ]
    words = [{"title": {"text": escaped(title, 48), "font": {"size": 12}}} for title in titles]
    turned = [{"autorange": "reversed"} if is_turned else {} for is_turned in (across, up)]
    axes = [axis() | title | turn for title, turn in zip(words, turned, strict=True)]
    look = layout(380, {"l": 60, "r": 14, "t": 14, "b": 50}, xaxis=axes[0], yaxis=axes[1])
    if len(names) <= MOST_LABELS:
        look["annotations"] = [label(escaped(name, 28), *place) for name, place in zip(names, places, strict=True)]
    return {"data": data, "layout": look}


def _hover(name: str, x: float, y: float) -> str:
    return f"<b>{escaped(name)}</b><br>{x:.4g}, {y:.4g}"


def _check_size(table: PaperTable, name: str, size: str) -> None:
    if size not in table.sizes:
        raise UserError(f"--size {size}: '{name}' has the sizes {', '.join(table.sizes)}{nearest(size, table.sizes)}")


def _keys(row: Row, size: Size, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a row's run: a share of old text becomes corpus entries, and new text is less by as much."""
    keys = dict(row.keys(size))
    if OLD_TEXT in keys:
        share = keys.pop(OLD_TEXT)
        new, *old = recipe["corpus"]
        tokens = new["tokens"] / (1 - sum(entry["share"] for entry in old)) * (1 - share)
        entries = [{**entry, "share": share / len(old)} for entry in old] if share else []
        keys["corpus"] = [{**new, "tokens": round(tokens)}, *entries]
    return keys


def _testbed(common: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """A recipe for the testbed's world 0."""
    from lingraft.synthetic import cache_folder, code_fingerprint, trained_base, write_testbed
    from lingraft.synthetic.demo import recipe_of

    files, base = Path("testbed"), Path("base")
    if folder is not None:
        made = {"testbed": code_fingerprint(), "seed": 0}
        files = cached(folder / files, made, lambda at: write_testbed(at, 0)).resolve()
        base = trained_base(files, cache_folder(), 0).resolve()
    recipe = recipe_of(common, base, files, 0)
    del recipe["evaluation"]["tasks"]
    return recipe


def _small(common: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """A recipe for SmolLM2-135M-Instruct and Chichewa; English is what the base generates."""
    from lingraft.tutorial import chichewa, smollm2

    model, text = Path("smollm2"), Path("chichewa.jsonl")
    if folder is not None:
        model, text = smollm2(folder / model).resolve(), chichewa(folder / text).resolve()
    return {
        "base": str(model),
        "languages": {"learn": ["nya_Latn"], "retain": ["eng_Latn"]},
        "max_length": 512,
        "corpus": [{"language": "nya_Latn", "files": str(text), "tokens": SMALL_TOKENS}],
        **common,
        "training": {"per_device_train_batch_size": 4, **common.get("training", {})},
        "evaluation": {"self_generated": "eng_Latn"},
    }
