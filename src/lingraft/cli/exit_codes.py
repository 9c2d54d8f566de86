"""An error -> the exit code and the message that a command ends with. The one place where this is decided.

0 success, 1 internal error, 2 invalid input, 3 interrupted or out of resources (run again to resume).

Libraries report the machine's faults in their own ways: as OSError, as MemoryError, or as another error whose text
holds the number of the operating system's error or its words. Any of them, also below an error of ours, is code 3.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from lingraft.errors import LingraftError, Stopped

_AGAIN = "start the same command again"
_ROOM = f"make room and {_AGAIN}"
_MEMORY = (
    "lower training.per_device_train_batch_size or max_length, or set training.gradient_checkpointing=true, "
    "with a new --out"
)
_DEVICE = f"see that the disk, or the server behind it, answers, and {_AGAIN}"

MACHINE_FAULTS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk is full: your quota is used up", _ROOM),
    errno.EFBIG: ("a file became larger than is allowed here", f"raise the limit (ulimit -f) and {_AGAIN}"),
    errno.ENOMEM: ("out of memory", _MEMORY),
    errno.EMFILE: ("too many open files", f"raise the limit (ulimit -n) and {_AGAIN}"),
    errno.ENFILE: ("too many open files on this machine", f"close other programs and {_AGAIN}"),
    errno.EAGAIN: ("no more processes or threads can be started", f"raise the limit (ulimit -u) and {_AGAIN}"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENXIO, errno.EREMOTEIO), ("the disk failed", _DEVICE)),
}
"""The operating system's errors that no input causes: what happened, and what to do."""

_NOT_ALLOWED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.EISDIR,
}
_LOOP = "Symlink loop from "
_NUMBERED = re.compile(r"(?:os error|\[?errno:?) (\d+)", re.IGNORECASE)
_WORDS: dict[str, int] = {
    **{os.strerror(number): number for number in MACHINE_FAULTS},
    "out of memory": errno.ENOMEM,
    "can't allocate memory": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
    "inline_container": errno.ENOSPC,  # torch, of a file that it could not write to its end
}


class Ending(NamedTuple):
    """How a command ends."""

    code: int
    message: str


def ending(error: BaseException) -> Ending | None:
    """How a command ends after an error; None for a fault of ours, which shows its traceback and ends with 1."""
    if isinstance(error, Stopped | KeyboardInterrupt):
        return Ending(3, f"stopped by {str(error) or 'SIGINT'}; start the same command again to go on")
    for each in _with_causes(error):
        if (number := _machine_fault(each)) is not None:
            what, advice = MACHINE_FAULTS[number]
            said = str(each).strip().splitlines()
            return Ending(3, f"{what}{f' ({said[0]})' if said else ''}; {advice}")
    if isinstance(error, LingraftError):
        return Ending(error.exit_code, str(error))
    if isinstance(error, OSError) and error.errno in _NOT_ALLOWED:
        place = f"{error.filename}: " if error.filename is not None else ""
        return Ending(2, f"{place}{error.strerror}; choose another place, or mend its permissions")
    if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):  # Path.resolve before Python 3.13
        return Ending(2, f"{str(error).removeprefix(_LOOP)}: this link leads to itself; give the file or folder")
    return None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from; below ours also what was being handled, for they hide it."""
    below: BaseException | None = error
    while below is not None:
        yield below
        below = below.__cause__ or (below.__context__ if isinstance(below, LingraftError) else None)


def _machine_fault(error: BaseException) -> int | None:
    """The number of the operating system's error that stands behind it, where it is the machine's."""
    if isinstance(error, LingraftError):
        return None
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in MACHINE_FAULTS else None
    text = str(error)
    if (numbered := _NUMBERED.search(text)) and int(numbered[1]) in MACHINE_FAULTS:
        return int(numbered[1])
    return next((number for words, number in _WORDS.items() if words in text), None)
