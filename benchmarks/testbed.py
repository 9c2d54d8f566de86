"""Learning and forgetting of every method in several worlds of the testbed, with intervals over the worlds.

    python benchmarks/testbed.py [FOLDER]     # FOLDER/seed-0 … keep the demos; started again, it goes on

The interval is that of the mean over the worlds (95 %, Student's t).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import lingraft
from lingraft.synthetic.demo import OLD_TEXT, RUNS

SEEDS = range(3)
MORE = {
    "neutral-residues-sigmoid": {
        "method": {"name": "neutral-residues", "gate": "sigmoid", "loss": "ce"},
        "old_text": OLD_TEXT,
    },
    "layra-self-generated": {**RUNS["layra"], "replay": RUNS["lora-self-generated"]["replay"]},
}
"""Runs beside the demo's."""
STUDENT_T = 4.303
"""The 97.5 % quantile at two degrees of freedom: for three worlds."""


def figures(results: dict[str, Any]) -> dict[str, float]:
    """What the table shows of one run, in percent and points."""
    shown = {"bits per byte": results, **results["tasks"]}
    return {f"{name} {sum_}": 100 * of[sum_] for sum_ in ("learning", "forgetting") for name, of in shown.items()}


def base_figures(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of the untouched base: bits per byte and accuracies per language."""
    figures = {"bits per byte": {code: of["bits_per_byte"]["before"] for code, of in results["languages"].items()}}
    for name, task in results["tasks"].items():
        figures[name] = {code: 100 * of["score"]["before"] for code, of in task["languages"].items()}
    return figures


def main(folder: Path) -> None:
    worlds = {seed: lingraft.demo(folder / f"seed-{seed}", seed, {**RUNS, **MORE}) for seed in SEEDS}
    print("\nthe base")
    for seed, methods in worlds.items():
        for name, by_language in base_figures(next(iter(methods.values()))).items():
            shown = "  ".join(f"{code} {value:.3f}".rstrip("0").rstrip(".") for code, value in by_language.items())
            print(f"  seed {seed}  {name:14} {shown}")
    print("\nmean over the worlds, its interval, and each world")
    for method in worlds[0]:
        by_seed = [figures(methods[method]) for methods in worlds.values()]
        for name in by_seed[0]:
            values = np.array([of[name] for of in by_seed])
            half = STUDENT_T * values.std(ddof=1) / len(values) ** 0.5
            each = "  ".join(f"{value:+7.1f}" for value in values)
            print(f"  {method:24} {name:26} {values.mean():+7.1f} ± {half:5.1f}   ({each})")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lingraft").setLevel(logging.INFO)
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as scratch:
            main(Path(scratch))
