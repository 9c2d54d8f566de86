"""Which layers LayRA trains: the seven ranges of arXiv 2509.11414, Appendix A.2, on six layers, as one sweep.

    python benchmarks/layer_ranges.py FOLDER [--seeds 3]

writes `FOLDER/recipe.yaml`, which is that of the demo's `layra` with `sweep:`, and runs it as
`lingraft run FOLDER/recipe.yaml --out FOLDER/sweep`. Started again, it goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

import lingraft
from lingraft.synthetic.demo import RUNS, run_demo

RANGES = ((4, 1), (3, 2), (2, 2), (1, 4), (5, 0), (0, 5), (3, 3))
"""First and last layers, of six."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    run_demo(given.folder / "demo", 0, {"layra": RUNS["layra"]})
    recipe = yaml.safe_load((given.folder / "demo" / "recipes" / "layra.yaml").read_text())
    runs = [{"name": f"{first}-{last}", "method.first": first, "method.last": last} for first, last in RANGES]
    recipe["sweep"] = {"runs": runs, "grid": {"seed": list(range(given.seeds))}}
    file = given.folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    lingraft.run(file, given.folder / "sweep")


if __name__ == "__main__":
    main()
