"""Thousands of wrong inputs: none may end in a traceback, take long, write elsewhere, or leave something behind.

    python benchmarks/fuzz.py [--inputs 10000] [--seconds 1800] [--seed 0] [--only FAMILY [--repeat NUMBER]]

Inputs come from valid ones by a few mutations (`robustness/families`), each from its own seed. The command line is
called in a fork of this process, with torch on the CPU, a limit on memory, and nothing outside its folder to be
written. `--repeat` runs one input, keeps its folder, and prints what the command said.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process with threads cannot be forked safely
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from robustness.families import FAMILIES
from robustness.fuzzing import Verdict, families_in_turn, repeat, try_input
from robustness.prepare import prepare


class Table:
    """What is kept of thousands of verdicts."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.codes: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.slowest: defaultdict[str, float] = defaultdict(float)
        self.faults: defaultdict[str, list[Verdict]] = defaultdict(list)

    def add(self, verdict: Verdict) -> None:
        self.codes[verdict.family][verdict.ended.code] += 1
        self.slowest[verdict.family] = max(self.slowest[verdict.family], verdict.ended.seconds)
        for problem in verdict.problems:
            if problem not in self.faults:
                print(self._row(problem, verdict), flush=True)
            self.faults[problem].append(verdict)

    @property
    def inputs(self) -> int:
        return sum(codes.total() for codes in self.codes.values())

    def __str__(self) -> str:
        rows = [f"{'family':14} {'inputs':>7} {'exit 0':>7} {'exit 2':>7} {'exit 3':>7} {'other':>6} {'slowest':>8}"]
        for family, codes in self.codes.items():
            good = [codes[code] for code in (0, 2, 3)]
            cells = [codes.total(), *good, codes.total() - sum(good)]
            rows.append(f"{family:14}" + "".join(f" {cell:7}" for cell in cells) + f" {self.slowest[family]:6.1f} s")
        rows.append(f"{self.inputs} inputs, {sum(map(len, self.faults.values()))} faults of {len(self.faults)} kinds")
        for problem, verdicts in sorted(self.faults.items(), key=lambda item: -len(item[1])):
            rows.append(f"{len(verdicts):5} {self._row(problem, verdicts[0])}")
        return "\n".join(rows)

    def _row(self, problem: str, verdict: Verdict) -> str:
        return f"{problem}  (--seed {self.seed} --only '{verdict.family}' --repeat {verdict.number})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=FAMILIES)
    parser.add_argument("--repeat", type=int, metavar="NUMBER")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = prepare(Path(folder))
        if options.repeat is not None:
            repeat(world, options.seed, options.only, options.repeat)
            return
        table, until = Table(options.seed), time.monotonic() + options.seconds
        for family, number in families_in_turn(options.seed, options.only):
            if table.inputs >= options.inputs or time.monotonic() > until:
                break
            table.add(try_input(world, options.seed, family, number))
    print(table)
    if table.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
