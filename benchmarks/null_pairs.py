"""How often a change is called where there is none: two models that differ in their seed alone, document by document.

    python benchmarks/null_pairs.py RUN OTHER [--draws 1000] [--documents 10 20 40]

RUN and OTHER are folders of finished runs of one recipe with two seeds, measured on the same text. Which of both is
"after" is drawn for each document, so that there is no change on the whole, and so many of the documents are drawn.
Printed is the share of draws whose interval of 95 % leaves out 0, with its own standard error; 5 % are to be expected,
since random signs are what the interval assumes: this checks it on differences as large and unequal as real ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from lingraft.evaluation.paired_changes import delta_interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs=2)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--documents", type=int, nargs="+", default=[10, 20, 40])
    given = parser.parse_args()
    one, other = (json.loads((run / "work/after/measurement.json").read_text())["text"] for run in given.runs)
    for code in one:
        size = np.array(one[code]["bytes"])
        if other.get(code, {}).get("bytes") != one[code]["bytes"]:
            print(f"{code}: other documents in both runs, left out")
            continue
        change = (np.array(one[code]["nats"]) - np.array(other[code]["nats"])) / np.log(2)
        for count in dict.fromkeys(min(count, len(size)) for count in given.documents):
            share = called(change, size, count, given.draws)
            error = (share * (1 - share) / given.draws) ** 0.5
            print(f"{code}, {count} of {len(size)} documents: {100 * share:.1f} ± {100 * error:.1f} % called")


def called(change: np.ndarray, size: np.ndarray, count: int, draws: int) -> float:
    """The share of null pairs whose interval leaves out 0."""
    random, found = np.random.default_rng(0), 0
    for _ in range(draws):
        chosen = random.permutation(len(size))[:count]
        signs = random.choice([-1.0, 1.0], count)
        ends = delta_interval(change[chosen] * signs, size[chosen], seed=int(random.integers(1 << 30)))
        found += ends is not None and (ends[0] > 0 or ends[1] < 0)
    return found / draws


if __name__ == "__main__":
    main()
