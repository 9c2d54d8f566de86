"""Commands killed at random moments and started again: the same bytes must come out.

    python benchmarks/kills.py [--kills 100] [--damaged 30] [--seed 0]

A run (new tokens, two stages, self-generated replay, a limit on what is forgotten), a merge, an extension, a report
and an evaluation are killed by KILL, TERM or INT, a quarter of them twice, then left alone. In `--damaged` more runs
the newest artefact or checkpoint is cut, zeroed or removed before the restart. All that is published is compared with
what an undisturbed command makes, but for times in JSON.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process with threads cannot be forked safely
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import random
import tempfile
from pathlib import Path

from robustness.fuzzing import prepare
from robustness.killing import SIGNALS, Killer, Trial

SHARES = {"run": 50, "merge": 15, "extend": 15, "report": 10, "evaluate": 10}
TWICE = 0.25


def table(trials: list[Trial]) -> str:
    """A row for each command, then what went wrong."""
    rows = [
        f"{'command':10} {'KILL':>5} {'TERM':>5} {'INT':>5} {'damaged':>8} {'same bytes':>11} {'slowest restart':>16}"
    ]
    for command in SHARES:
        of = [trial for trial in trials if trial.command == command]
        counts = [sum(trial.signals.count(stop) for trial in of) for stop in SIGNALS]
        same = f"{sum(not trial.problems for trial in of)} of {len(of)}"
        slowest = max((trial.seconds for trial in of), default=0)
        cells = "".join(f" {count:5}" for count in counts)
        rows.append(f"{command:10}{cells} {sum(bool(trial.damage) for trial in of):8} {same:>11} {slowest:14.1f} s")
    for trial in trials:
        if trial.problems:
            rows.append(f"{trial.command}, {' then '.join(stop.name for stop in trial.signals)}, {trial.damage}:")
            rows += [f"  {problem}" for problem in trial.problems]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--damaged", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=SHARES, help="kill this command alone")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    commands = [options.only] if options.only else list(SHARES)
    drawn = draw.choices(commands, [SHARES[command] for command in commands], k=options.kills)
    with tempfile.TemporaryDirectory() as folder:
        killer, trials = Killer(prepare(Path(folder)), Path(folder)), []
        for command, damage in [*((command, False) for command in drawn), *[("run", True)] * options.damaged]:
            stops = draw.choices(SIGNALS, k=2 if draw.random() < TWICE else 1)
            trials.append(killer.kill(command, stops, draw, damage))
            if trials[-1].problems:
                print(table(trials[-1:]), flush=True)
    print(table(trials))
    same = [sum(not trial.problems for trial in trials if bool(trial.damage) == damage) for damage in (False, True)]
    print(f"{same[0]} of {options.kills} kills and {same[1]} of {options.damaged} with damage ended in the same bytes")
    if any(trial.problems for trial in trials):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
