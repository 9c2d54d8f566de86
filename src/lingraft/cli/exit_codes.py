"""Map an error to the exit code and message that a command ends with; no other module does.

0 success, 1 internal error, 2 invalid input, 3 interrupted or out of resources (run again to resume).

A fault of the machine (`machine_faults`), also as the cause of a LingraftError, is code 3.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NamedTuple

from lingraft.errors import Interrupted, LingraftError
from lingraft.machine_faults import MACHINE_FAULTS, machine_fault

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


class Ending(NamedTuple):
    """How a command ends."""

    code: int
    message: str


def ending(error: BaseException) -> Ending | None:
    """How a command ends after an error; None for an internal error, which shows its traceback and ends with 1."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return Ending(3, f"stopped by {str(error) or 'SIGINT'}; start the same command again to go on")
    for each in _with_causes(error):
        if (number := machine_fault(each)) is not None:
            what, advice = MACHINE_FAULTS[number]
            lines = str(each).strip().splitlines()
            return Ending(3, f"{what}{f' ({lines[0]})' if lines else ''}; {advice}")
    if isinstance(error, LingraftError):
        return Ending(error.exit_code, str(error))
    if isinstance(error, OSError) and error.errno in _NOT_ALLOWED:
        place = f"{error.filename}: " if error.filename is not None else ""
        return Ending(2, f"{place}{error.strerror}; choose another place, or correct its permissions")
    if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):  # Path.resolve before Python 3.13
        return Ending(2, f"{str(error).removeprefix(_LOOP)}: this link leads to itself; give the file or folder")
    return None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes; for a LingraftError also its context, which it hides."""
    below: BaseException | None = error
    while below is not None:
        yield below
        below = below.__cause__ or (below.__context__ if isinstance(below, LingraftError) else None)
