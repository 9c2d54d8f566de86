"""A command line in a forked child of this warm process: no imports to wait for, and what it does ends with it."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path


def _nothing() -> None: ...


class Child:
    """A command that was started in a child process, in a current folder of its own."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        before: Callable[[], None] = _nothing,
        after: Callable[[], None] = _nothing,
    ) -> None:
        self._stderr, writing = os.pipe()
        os.set_blocking(self._stderr, False)
        sys.stdout.flush()
        sys.stderr.flush()
        self.seconds = 0.0
        """Of processor time that it took, once it has ended."""
        self.id = os.fork()
        if not self.id:
            _run(arguments, folder, writing, before, after)
        os.close(writing)

    def end(self, seconds: float) -> tuple[int, str]:
        """Exit code, or minus the signal that ended it, and standard error; it is killed when its time is over."""
        said, until, status = b"", time.monotonic() + seconds, None
        ending = os.pidfd_open(self.id)
        while status is None:
            if time.monotonic() > until:
                os.kill(self.id, signal.SIGKILL)
            select.select([ending, self._stderr], [], [], 0.5)
            said += self._read()
            ended, code, used = os.wait4(self.id, os.WNOHANG)
            status = code if ended else None
        said += self._read()
        os.close(ending)
        os.close(self._stderr)
        self.seconds = used.ru_utime + used.ru_stime
        return os.waitstatus_to_exitcode(status), said.decode(errors="replace")

    def _read(self) -> bytes:
        read = b""
        with suppress(BlockingIOError):
            while piece := os.read(self._stderr, 2**16):
                read += piece
        return read


def _run(
    arguments: Sequence[str], folder: Path, stderr: int, before: Callable[[], None], after: Callable[[], None]
) -> None:
    """All that the child does; it does not return."""
    code = 1
    try:
        os.dup2(stderr, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout = open(1, "w", errors="surrogateescape")  # noqa: SIM115 (a descriptor)
        sys.stderr = open(2, "w", errors="backslashreplace")  # noqa: SIM115
        os.chdir(folder)
        before()
        code = _call(arguments)
        after()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _call(arguments: Sequence[str]) -> int:
    """The command line in this process; gives its exit code."""
    from lingraft.cli import main

    sys.argv = ["lingraft", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def warm(commands: Iterable[Sequence[str]], folder: Path) -> None:
    """Import what these commands import, so that no later child waits for it; each must end well.

    They run in children: libraries start threads, and a process that has some cannot be forked safely.
    """
    names = folder / "modules"
    for arguments in commands:
        child = Child(arguments, folder, after=lambda: names.write_text("\n".join(sys.modules)) and None)
        code, stderr = child.end(300)
        if code:
            raise RuntimeError(f"lingraft {' '.join(arguments)}: {stderr}")
        for name in names.read_text().splitlines():
            if name not in sys.modules:
                with suppress(Exception):  # made on the fly, as a module with a model's own code
                    importlib.import_module(name)


def fill_caches(arguments: Sequence[str], folder: Path) -> None:
    """Run a command that starts no threads in this process, for the tables that libraries make once."""
    handlers = {stop: signal.getsignal(stop) for stop in (signal.SIGTERM, signal.SIGINT)}
    given = sys.argv
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert _call(arguments) == 0
    for stop, handler in handlers.items():
        signal.signal(stop, handler)
    logging.getLogger().handlers.clear()
    sys.argv = given
