"""How a command ended on an input, and what is wrong with that."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from robustness.folder import Contents, changed
from robustness.watch import FORBIDDEN

TOO_LONG, STUCK = 20, 60
"""Seconds that a command may take: of processor time, whatever else the machine does, and by the clock."""
_FRAME = re.compile(r'File "[^"]*/lingraft/([\w/]+\.py)", line (\d+),? in (\w+)')
_DUMP = "(most recent call first)"
"""What faulthandler writes before frames of which the innermost is the first."""
_EXCEPTION = re.compile(r"^[\w.]+(?:Error|Exception|Exit|Interrupt|Warning|Interrupted)\b", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """A command on one input."""

    arguments: Sequence[str]
    code: int
    """Its exit code, or minus the signal that ended it."""
    seconds: float
    """Of processor time."""
    stderr: str
    before: Contents
    after: Contents
    outputs: Sequence[str]
    """Paths that it was to write, relative to its folder."""
    machine_fault: bool


def problems(ended: Ended) -> Iterator[str]:
    """Each law that was broken, in words that are the same for faults of one kind."""
    if ended.seconds > TOO_LONG or ended.code == -signal.SIGKILL:
        yield f"over {TOO_LONG} seconds, or stuck, in {_frame(ended.stderr)}"
    elif ended.code == 1:
        exceptions = _EXCEPTION.findall(ended.stderr)
        yield f"exit 1: {exceptions[-1] if exceptions else 'no exception'} in {_frame(ended.stderr)}"
    elif ended.code == 3 and not ended.machine_fault:
        yield f"exit 3 without a fault of the machine: {_last_line(ended.stderr)}"
    elif ended.code not in (0, 2, 3):
        yield f"ended with {ended.code}"
    if ended.code == 2 and ("Traceback" in ended.stderr or "rror" not in ended.stderr):
        yield f"exit 2 without a message of its own: {_last_line(ended.stderr)}"
    attempts = dict.fromkeys(line for line in ended.stderr.splitlines() if line.startswith(FORBIDDEN))
    yield from (attempt for attempt in attempts if not _is_asked_for(attempt, ended.outputs))
    yield from (f"{what}: {_without_numbers(path)}" for what, path in _wrongly_written(ended))


def _is_asked_for(attempt: str, outputs: Sequence[str]) -> bool:
    """Whether an attempt writes to an output that the command line puts outside the folder, or stages it there."""
    elsewhere = [Path("/", re.sub(r"^(\.\./)+", "", output)) for output in outputs if output.startswith("../")]
    places = [place for path in elsewhere for place in (path, path.with_name(f".{path.name}.lingraft"))]
    return any(f"'{place}'" in attempt or f"'{place}/" in attempt for place in places)


def _wrongly_written(ended: Ended) -> Iterator[tuple[str, str]]:
    """Nothing that was there changes but a file that is the output; what is new lies in the output."""
    new = [path for path in ended.after if path not in ended.before]
    for path in sorted(changed(ended.before, ended.after)):
        if path not in ended.outputs or ended.before[path][0] != "file" or path in _named(ended.arguments):
            yield "changed or lost", path
    for path in sorted(new):
        if ended.code == 2:
            yield "left after exit 2", path
        elif not any(_is_within(path, output) or _is_within(output, path) for output in ended.outputs):
            yield "outside --out", path


def outputs(arguments: Sequence[str], folder: Path) -> list[str]:
    """Where a command line says that it writes, links followed, relative to the folder."""
    if "--dry-run" in arguments:
        return []
    given = [after for option, after in pairwise(arguments) if option in ("--out", "-o")]
    given += [argument.partition("=")[2] for argument in arguments if argument.startswith("--out=")]
    given += ["recipe.yaml"] if arguments[:1] == ["init"] else []
    return [os.path.relpath(os.path.realpath(folder / path), os.path.realpath(folder)) for path in given]


def _named(arguments: Sequence[str]) -> set[str]:
    """Files that the command line names beside its output."""
    others = [of for option, of in zip(["", *arguments], arguments, strict=False) if option not in ("--out", "-o")]
    return {os.path.normpath(re.split("[=:]", other)[-1]) for other in others if not other.startswith("--out=")}


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/") or folder == "."


def _frame(stderr: str) -> str:
    """The innermost frame of lingraft in a traceback."""
    _, dumped, dump = stderr.partition(_DUMP)
    frames = _FRAME.findall(dump)[:1] if dumped else _FRAME.findall(stderr)
    return "{}:{} {}".format(*frames[-1]) if frames else "no frame of lingraft"


def _last_line(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    return lines[-1][:120] if lines else "nothing"


def _without_numbers(path: str) -> str:
    return re.sub(r"\d{3,}", "N", path)
