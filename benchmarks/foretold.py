"""Rehearse runs and then make them: what `lingraft advise RECIPE --rehearse` foretells from, and how well it does.

    python benchmarks/foretold.py FOLDER known 100-107 [METHOD ...]   # adds worlds of the testbed to rehearsals.json
    python benchmarks/foretold.py FOLDER unseen 200-209 [METHOD ...]  # foretells these, and says what came
    python benchmarks/foretold.py FOLDER made RUN ...                 # adds finished runs: each is rehearsed beside

Started again, it goes on. METHOD is a run of the demo; by default `silent-adapters` and `full`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import lingraft
from lingraft.advice import foretell as foretelling
from lingraft.advice.foretell import FIGURES, foretell, kind_of, known_runs, rehearsal_of
from lingraft.recipe import load_recipe
from lingraft.synthetic.demo import RUNS

KNOWN = Path(foretelling.__file__).with_name("rehearsals.json")
METHODS = ("silent-adapters", "full")


def rehearsed(run: Path, recipe: Any, folder: Path, base: str, title: str) -> dict[str, Any]:
    """What `rehearsals.json` has of a finished run."""
    resolved = load_recipe(recipe)
    rehearsal = lingraft.run(rehearsal_of(resolved), folder, beside=[run])
    final = json.loads((run / "results.json").read_text())
    given = {"rehearsal": rehearsal, "final": final}
    figures = {name: {key: of[key] for key in FIGURES if key in of} for name, of in given.items()}
    return {"kind": kind_of(resolved), **figures, "base": base, "run": title}


def worlds(folder: Path, seeds: Sequence[int], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Runs of the testbed, with their rehearsals."""
    found = []
    for seed in seeds:
        lingraft.demo(folder / f"world-{seed}", seed, {name: RUNS[name] for name in methods})
        for name in methods:
            recipe = yaml.safe_load((folder / f"world-{seed}" / "recipes" / f"{name}.yaml").read_text())
            run = folder / f"world-{seed}" / name
            place = folder / f"world-{seed}" / f"{name}-rehearsed"
            found.append(rehearsed(run, recipe, place, "the testbed", f"world {seed}, 100,000 tokens"))
    return found


def write(found: Sequence[dict[str, Any]]) -> None:
    runs = {(run["kind"], run["base"], run["run"]): run for run in [*json.loads(KNOWN.read_text()), *found]}
    lines = ",\n".join(json.dumps(run, ensure_ascii=False) for run in runs.values())
    KNOWN.write_text(f"[\n{lines}\n]\n")


def compare(found: Sequence[dict[str, Any]]) -> None:
    """Each run: what was foretold, what came; then how many lie within a tenth, and within the interval."""
    within: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for run in found:
        for figure, of in foretell(run["rehearsal"], run["kind"], known_runs()).items():
            came = run["final"][figure]
            is_near, is_inside = abs(of.expected - came) <= 0.1 * abs(came), of.low <= came <= of.high
            within.setdefault((run["kind"], figure), []).append((is_near, is_inside))
            told = f"{100 * of.expected:6.1f} ({100 * of.low:.1f} to {100 * of.high:.1f})"
            rehearsal = f"rehearsal {100 * run['rehearsal'][figure]:6.1f}"
            print(f"{run['kind']:36} {run['run']:28} {figure:10} {rehearsal}  foretold {told}  came {100 * came:6.1f}")
    for (kind, figure), of in within.items():
        near, inside = (sum(column) for column in zip(*of, strict=True))
        print(f"{kind}, {figure}: {near} of {len(of)} within a tenth, {inside} within the interval")


def _said(run: Path) -> str:
    """Languages, tokens and seed of a finished run."""
    recipe = yaml.safe_load((run / "recipe.resolved.yaml").read_text())
    learned, tokens = ", ".join(recipe["languages"]["learn"]), recipe["corpus"][0].get("tokens")
    return f"{learned}, {tokens:,} tokens, seed {recipe['seed']}"


def main(folder: Path, what: str, which: Sequence[str]) -> None:
    if what == "made":
        runs = [Path(run) for run in which]
        recipes = [yaml.safe_load((run / "recipe.resolved.yaml").read_text()) for run in runs]
        bases = [Path(recipe["base"]).name for recipe in recipes]
        made = zip(runs, recipes, bases, strict=True)
        write([rehearsed(run, recipe, folder / run.name, base, _said(run)) for run, recipe, base in made])
        return
    first, last = map(int, which[0].split("-"))
    found = worlds(folder, range(first, last + 1), which[1:] or METHODS)
    write(found) if what == "known" else compare(found)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
