"""The command line in a process of its own that waits for no import: it is forked from a warm one."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FORKED = multiprocessing.get_context("forkserver")
LOADED = [
    "lingraft.cli.commands",
    "lingraft.pipeline.run",
    "lingraft.merging.methods",
    "lingraft.vocabulary.tokenizer",
    "peft",
    "datasets",
]
FORKED.set_forkserver_preload([*LOADED, "transformers.trainer", "transformers.models.llama.modeling_llama"])
_STREAMS = ("out", "err")
_NOTHING: Mapping[str, Any] = {}


class Command:
    """`lingraft ARGUMENTS`, started.

    `environment` is added to this process's; `settings` are module-level names, such as `lingraft.disk.NAME`, and
    their values there.
    """

    def __init__(
        self,
        *arguments: object,
        environment: Mapping[str, str] = _NOTHING,
        settings: Mapping[str, Any] = _NOTHING,
    ) -> None:
        self._folder = TemporaryDirectory()
        given = [str(argument) for argument in arguments]
        start = (given, self._folder.name, {**os.environ, **environment}, dict(settings), Path.cwd())
        self._process = FORKED.Process(target=_run, args=start)
        self._process.start()

    def send(self, signal: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def end(self, seconds: float = 150) -> tuple[int, str, str]:
        """Its exit code, or minus the signal that ended it; standard output and standard error."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"it did not end within {seconds} seconds"
        said = [path.read_text() if (path := Path(self._folder.name) / name).exists() else "" for name in _STREAMS]
        self._folder.cleanup()
        return self._process.exitcode, said[0], said[1]


def command(*arguments: object) -> tuple[str, str]:
    """Run a command that ends well; gives standard output and standard error."""
    code, out, err = Command(*arguments).end()
    assert code == 0, err
    return out, err


def two_processes(*arguments: object) -> None:
    """Run a command that ends well in two processes, as torchrun starts them."""
    for started in [Command(*arguments, environment=rank) for rank in two_ranks()]:
        code, _, said = started.end()
        assert code == 0, said


def two_ranks() -> list[dict[str, str]]:
    """What torchrun sets in the environment of each of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{"RANK": rank, "LOCAL_RANK": rank, **shared} for rank in ("0", "1")]


def _run(arguments: list[str], folder: str, environment: dict[str, str], settings: dict[str, Any], here: Path) -> None:
    for descriptor, name in enumerate(_STREAMS, start=1):
        os.dup2(os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.update(environment)
    os.chdir(here)
    for name, value in settings.items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    from lingraft.cli import main

    sys.argv = ["lingraft", *arguments]
    main()
