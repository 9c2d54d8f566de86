"""The papers' ablations on the testbed: each a grid of recipes in one world.

    python benchmarks/ablations.py FOLDER [GRID …] [--seed 0]     # FOLDER keeps the runs; started again, it goes on

Each grid leaves its recipes under FOLDER/recipes and one page; the table has learning and forgetting in percent
of bits per byte, and, where there are gates, their mean opening on old and on new text.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import lingraft
from lingraft.synthetic import NEW
from lingraft.synthetic.demo import OLD_TEXT

Runs = dict[str, dict[str, Any]]


def gated(old_text: float = OLD_TEXT, **settings: Any) -> dict[str, Any]:
    return {"method": {"name": "neutral-residues", **settings}, "old_text": old_text}


GATES: Runs = {
    "gate-none-l1": gated(gate="none", loss="l1"),
    "gate-sigmoid-ce": gated(gate="sigmoid", loss="ce"),
    "gate-sigmoid-l1-ce": gated(gate="sigmoid", loss="l1+ce"),
    "gate-relu": gated(gate="relu", loss="none"),
    "gate-relu-l1": gated(),
    "adapters": {"method": {"name": "adapters"}, "old_text": OLD_TEXT},
}
"""arXiv 2410.02744 Table 4, rows 1 to 6."""

INIT: Runs = {
    "gate-none-l1-he": gated(gate="none", loss="l1", init="he"),
    "gate-none-l1": gated(gate="none", loss="l1"),
    "gate-sigmoid-ce-he": gated(gate="sigmoid", loss="ce", init="he"),
    "gate-sigmoid-ce": gated(gate="sigmoid", loss="ce"),
    "gate-relu-l1-he": gated(init="he"),
    "gate-relu-l1": gated(),
}
"""Table 5."""

LOSS_WEIGHT: Runs = {
    f"loss-weight-{weight:g}": gated(loss_weight=float(weight)) for weight in (0, 0.01, 0.1, 1, 10, 100)
}
"""Table 6."""

SIZE: Runs = {
    f"{name}-{share:g}": {"method": {"name": name, "extra_parameters": share}, "old_text": OLD_TEXT}
    for name in ("lora-ffn", "adapters", "neutral-residues")
    for share in (0.05, 0.1, 0.2, 0.5)
}
"""Table 9."""

OLD: Runs = {
    f"{name}-p-{share:g}": {"method": {"name": name}, "old_text": share}
    for name in ("full", "lora-ffn", "adapters", "neutral-residues")
    for share in (0.0, 0.01, 0.1, 0.5)
}
"""Tables 1, 2 and 10."""

L2SP: Runs = {
    f"full-l2sp-{weight:g}": {
        "method": {"name": "full"},
        "penalties": {"l2sp": {"first": 2, "last": 1, "weight": {"middle": weight}}},
    }
    for weight in (0.0, 0.005, 0.05, 0.5)
}
"""lambda of the middle layers (arXiv 2606.00284 §2.2: 0.05)."""

SELF: Runs = {
    f"lora-self-{share:g}": {"method": {"name": "lora"}, "replay": {"self_generated": share}}
    for share in (0.05, 0.1, 0.2)
} | {"lora-self-0.2-ce": {"method": {"name": "lora"}, "replay": {"self_generated": 0.2, "loss": "ce"}}}
"""Text that the base writes itself (arXiv 2605.26097)."""

GRIDS: Mapping[str, Runs] = {
    "gates": GATES,
    "init": INIT,
    "alpha": LOSS_WEIGHT,
    "size": SIZE,
    "old-text": OLD,
    "l2sp": L2SP,
    "self-generated": SELF,
}


def opening(run: Path) -> str:
    """Mean gate on old and on new text."""
    gates = json.loads((run / "training.json").read_text()).get("gates", {})
    if not gates:
        return ""
    old = np.mean([of for code, of in gates.items() if code != NEW])
    return f"  gate: old {old:.4f}, new {np.mean(gates[NEW]):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("grids", nargs="*", help=f"of {', '.join(GRIDS)}; all of them where none is given")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for grid in given.grids or GRIDS:
        print(f"\n{grid}", flush=True)
        for name, settings in GRIDS[grid].items():
            results = lingraft.demo(given.folder, given.seed, {name: settings})[name]
            learning, forgetting = 100 * results["learning"], 100 * results["forgetting"]
            shown = opening(given.folder / name)
            print(f"  {name:24} learning {learning:6.1f}  forgetting {forgetting:6.1f}{shown}", flush=True)
        lingraft.report([given.folder / name for name in GRIDS[grid]], given.folder / f"{grid}.html")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lingraft").setLevel(logging.INFO)
    main()
