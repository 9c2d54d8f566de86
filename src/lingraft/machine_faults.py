"""Recognize faults of the machine: a full disk, too little memory, a limit on files or threads.

Libraries report them as OSError, as MemoryError, or as another error whose text holds the number or the message
of the operating system's error.
"""

from __future__ import annotations

import errno
import os
import re

from lingraft.errors import LingraftError

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
"""Number of an operating system error -> what happened, and what to do."""

_NUMBERED = re.compile(r"(?:os error|\[?errno:?) (\d+)", re.IGNORECASE)
_WORDS: dict[str, int] = {
    **{os.strerror(number): number for number in MACHINE_FAULTS},
    "out of memory": errno.ENOMEM,
    "can't allocate memory": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
    "inline_container": errno.ENOSPC,  # torch, where a file could not be written completely
}


def machine_fault(error: BaseException) -> int | None:
    """The number of the operating system error behind an error; `None` where it is no machine fault."""
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
