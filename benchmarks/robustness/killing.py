"""Commands killed at a random moment and started again, perhaps with damaged records: the same bytes come out."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustness.child import Child
from robustness.folder import files
from robustness.world import commands

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LONGEST = 300
"""Seconds that a restarted command may take."""
TIME = re.compile("seconds|seconds_since_last_start|.*_runtime|.*_per_second")
"""Keys of JSON that hold a time, or a speed, which is another each time."""
SHOWN_TIME = re.compile(rb"\d+:\d\d:\d\d|>seconds</th><td [^>]*>[\d.]+")
"""The same on a report."""
MERGES = ("merge vectors", "merge ties", "merge soup")
OUT = "killed"
"""The folder of the run that is killed."""
COMMANDS = {
    "run": [["run", "staged.yaml", "--out", OUT]],
    "merge": [commands()[name] for name in MERGES],
    "extend": [commands()["extend"]],
    "report": [commands()["report"]],
    "evaluate": [commands()["evaluate"]],
}
"""What is killed. The run has new tokens, two stages, self-generated replay, and a limit on what is forgotten."""


@dataclass
class Undisturbed:
    """A command that ran to its end in a folder of its own."""

    arguments: Sequence[str]
    seconds: float
    published: dict[str, bytes]


@dataclass
class Trial:
    """A command that was killed and started again."""

    command: str
    signals: list[signal.Signals] = field(default_factory=list)
    damage: str = ""
    seconds: float = 0.0
    """Of the start that ran to the end."""
    problems: list[str] = field(default_factory=list)


class Killer:
    """Kills commands that start from copies of one world, always in the same folder."""

    def __init__(self, world: Path, folder: Path) -> None:
        self.world, self.folder = world, folder / "trial"
        self._undisturbed: dict[str, Undisturbed] = {}

    def undisturbed(self, arguments: Sequence[str]) -> Undisturbed:
        """What a command makes that nobody kills, and how long it takes."""
        key = " ".join(arguments)
        if key not in self._undisturbed:
            before, began = self._start_over(), time.monotonic()
            code, stderr = self._child(arguments).end(LONGEST)
            assert not code, stderr
            seconds = time.monotonic() - began
            self._undisturbed[key] = Undisturbed(arguments, seconds, published(self.folder, before))
        return self._undisturbed[key]

    def kill(self, command: str, stops: Sequence[signal.Signals], draw: random.Random, damage: bool = False) -> Trial:
        """Kill a command once with each signal, at moments drawn from all of its time, then let it end.

        With `damage`, its newest artefact or checkpoint is damaged before it ends.
        """
        whole, trial = self.undisturbed(draw.choice(COMMANDS[command])), Trial(command, list(stops))
        while True:  # until every signal came before the end, and there was something to damage
            before = self._start_over()
            if all(self._hits(whole, stop, draw, trial) for stop in stops):
                trial.damage = damage_newest(self.folder / OUT / "work", draw) if damage else ""
                if trial.damage or not damage:
                    break
        began = time.monotonic()
        code, stderr = self._child(whole.arguments).end(LONGEST)
        trial.seconds = time.monotonic() - began
        if code:
            trial.problems.append(f"started again, it ended with {code}: {stderr[-300:]}")
        else:
            made = published(self.folder, before)
            for path in sorted({*made, *whole.published}):
                if made.get(path) != whole.published.get(path):
                    expected, got = whole.published.get(path, b"no such file"), made.get(path, b"no such file")
                    trial.problems.append(f"other bytes: {path}: {_difference(expected, got)}")
        return trial

    def _start_over(self) -> dict[str, bytes]:
        """A fresh copy of the world; gives what is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.world, self.folder)
        return files(self.folder)

    def _child(self, arguments: Sequence[str]) -> Child:
        return Child(arguments, self.folder, _as_a_new_process)

    def _hits(self, whole: Undisturbed, stop: signal.Signals, draw: random.Random, trial: Trial) -> bool:
        """Start a command and send it a signal; whether it came before the end."""
        child, moment = self._child(whole.arguments), draw.uniform(0, whole.seconds)
        time.sleep(moment)
        os.kill(child.id, stop)
        code, stderr = child.end(LONGEST)
        if code not in (0, 3, -stop):
            trial.problems.append(f"ended with {code} by {stop.name} after {moment:.2f} s: {stderr[-300:]}")
        return code != 0


def _as_a_new_process() -> None:
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_DFL)


def published(folder: Path, before: dict[str, bytes]) -> dict[str, bytes]:
    """What a command wrote into a folder for users, but for times in JSON.

    Neither the artefacts of a run nor its notes, which are hidden and hold digests of files with times.
    """
    made = {path: data for path, data in files(folder).items() if before.get(path) != data}
    shown = {path for path in made if not path.startswith(f"{OUT}/work/") and not Path(path).name.startswith(".")}
    return {path: _without_times(path, made[path]) for path in sorted(shown)}


def _without_times(path: str, data: bytes) -> bytes:
    if path.endswith(".html"):
        return SHOWN_TIME.sub(b"", data)
    return json.dumps(_timeless(json.loads(data))).encode() if path.endswith(".json") else data


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(of) for key, of in value.items() if not TIME.fullmatch(key)}
    return [_timeless(of) for of in value] if isinstance(value, list) else value


def _difference(expected: bytes, got: bytes) -> str:
    """Both from a little before the first byte that differs."""
    place = next((at for at, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]), 0)
    return " | ".join(repr(data[max(0, place - 60) : place + 60]) for data in (expected, got))


def damage_newest(work: Path, draw: random.Random) -> str:
    """Cut, zero or remove a file of the newest artefact or checkpoint of a run; says what it did, if there is one."""
    checkpoints = [folder for folder in work.rglob("checkpoint-*") if any(map(Path.is_file, folder.iterdir()))]
    folders = [*(record.parent for record in work.rglob("fingerprint.json")), *checkpoints]
    if not folders:
        return ""
    newest = max(folders, key=lambda folder: folder.stat().st_mtime_ns)
    path = draw.choice(sorted(path for path in newest.rglob("*") if path.is_file()))
    name, damage = draw.choice(list(DAMAGES.items()))
    damage(path)
    return f"{path.relative_to(work)} {name}"


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "removed": Path.unlink,
}
