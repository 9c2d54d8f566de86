"""One input after another: made from its seed, given to a command in a child, judged."""

from __future__ import annotations

import faulthandler
import os
import random
import resource
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from robustness.child import Child
from robustness.families import FAMILIES
from robustness.families.machine import LIMIT
from robustness.folder import contents
from robustness.judge import STUCK, TOO_LONG, Ended, outputs, problems
from robustness.mutate import add_traps
from robustness.watch import forbid_outside

MEMORY = 6 * 2**30
"""Bytes of address space that a command may take beyond what this process has."""


@dataclass(frozen=True)
class Verdict:
    """An input and what is wrong with how the command ended on it."""

    family: str
    number: int
    ended: Ended
    problems: list[str] = field(default_factory=list)


def families_in_turn(seed: int, only: str | None) -> Iterator[tuple[str, int]]:
    """Family and number of one input after another, in the proportions of `FAMILIES`."""
    draw, counts = random.Random(seed), dict.fromkeys(FAMILIES, 0)
    while True:
        names = list(FAMILIES)
        family = only or draw.choices(names, [share for _, share in FAMILIES.values()])[0]
        yield family, counts[family]
        counts[family] += 1


def try_input(world: Path, seed: int, family: str, number: int) -> Verdict:
    """Make an input, run the command on it, and judge."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name).resolve() / "inputs"
        arguments, limit = make_input(world, folder, seed, family, number)
        before = contents(folder)
        child = Child(arguments, folder, lambda: _confine(folder, limit))
        code, stderr = child.end(STUCK)
        ended = Ended(
            arguments, code, child.seconds, stderr, before, contents(folder), outputs(arguments, folder), bool(limit)
        )
        return Verdict(family, number, ended, list(problems(ended)))


def make_input(world: Path, folder: Path, seed: int, family: str, number: int) -> tuple[list[str], int | None]:
    """Fill a new folder; gives the command line, and a limit on file sizes where there is one."""
    shutil.copytree(world, folder)
    add_traps(folder)
    (folder / "tmp").mkdir()
    generate, _ = FAMILIES[family]
    arguments = generate(random.Random(f"{seed}/{family}/{number}"), folder)
    limit = folder / LIMIT
    return arguments, int(limit.read_text()) if limit.exists() else None


def _confine(folder: Path, file_size: int | None) -> None:
    """Limits of the child: time is watched, memory and files are bounded, nothing outside the folder is written."""
    faulthandler.dump_traceback_later(STUCK - 2, file=sys.__stderr__)
    faulthandler.register(signal.SIGXCPU, file=sys.__stderr__)
    resource.setrlimit(resource.RLIMIT_CPU, (TOO_LONG, TOO_LONG + 2))
    sys.dont_write_bytecode = True
    os.environ["TMPDIR"], tempfile.tempdir = str(folder / "tmp"), None
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    forbid_outside(folder)


def repeat(world: Path, seed: int, family: str, number: int) -> None:
    """Run one input again, print all that is known of it, and keep its folder."""
    verdict = try_input(world, seed, family, number)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")) / "inputs"
    make_input(world, folder, seed, family, number)
    ended = verdict.ended
    print(f"cd {folder}; lingraft {shlex.join(ended.arguments)[:2000]}")
    print(ended.stderr[-10_000:])
    print(f"ended with {ended.code} after {ended.seconds:.1f} s", *verdict.problems, sep="\n  ")
