"""Run untrusted code in a child process, with limits on its time and memory."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lingraft.errors import ModelError

SECONDS = 3
"""CPU time of the child process."""
_MORE_BYTES = 2**30
_WALL_SECONDS = 60
"""Wall time, in case the machine is busy or the process hangs."""


def bounded(work: Callable[[], str], what: str) -> str:
    """The text that `work` returns.

    Raises:
        ModelError: it took too long or too much memory, or raised an error; the message names `what`.
    """
    reader, writer = os.pipe()
    with _without_fork_warning():
        child = os.fork()
        if child == 0:
            _work(work, writer)
    os.close(writer)
    try:
        answer = _answer(reader)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)  # it is done, or it never will be
        os.waitpid(child, 0)
    if answer is None:
        raise ModelError(f"{what} takes longer than {SECONDS} seconds, or more memory than it may; correct it")
    message = json.loads(answer)
    if "error" in message:
        raise ModelError(f"{what} cannot be used: {message['error']}")
    return str(message["text"])


@contextmanager
def _without_fork_warning() -> Iterator[None]:
    """The tokenizers library warns of a fork unless this is set; the child encodes nothing."""
    name = "TOKENIZERS_PARALLELISM"
    if name in os.environ:
        yield
        return
    os.environ[name] = "true"
    try:
        yield
    finally:
        del os.environ[name]


def _work(work: Callable[[], str], writer: int) -> None:
    """Run in the child. It never returns, and neither closes nor flushes anything that belongs to the parent."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _limit_memory()
        try:
            message = {"text": work()}
        except MemoryError:
            os._exit(1)
        except Exception as error:
            message = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        with os.fdopen(writer, "w") as file:
            file.write(json.dumps(message))
    finally:
        os._exit(0)


def _limit_memory() -> None:
    statistics = Path("/proc/self/statm")
    if statistics.exists():
        now = int(statistics.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + _MORE_BYTES, now + _MORE_BYTES))


def _answer(reader: int) -> bytes | None:
    """All bytes written before the other end is closed; `None` where nothing came, or the time ran out."""
    parts: list[bytes] = []
    end = time.monotonic() + _WALL_SECONDS
    while (left := end - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            part = os.read(reader, 2**16)
            if not part:
                return b"".join(parts) or None
            parts.append(part)
    return None
