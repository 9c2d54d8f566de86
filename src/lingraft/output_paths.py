"""Resolve and check the output path of a command, before any work is done.

A command uses only the path that these functions return.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from lingraft.cache import read_record
from lingraft.errors import OutputError

_LONGEST_NAME = 255 - len("..lingraft")
"""Bytes; the staging folder's name is longer (`disk`)."""


def folder_target(given: Path | str, reads: Iterable[Path | str] = ()) -> Path:
    """The absolute path, without links, of a folder to write.

    `reads`: what the command reads, see `check_not_read`.

    Raises:
        OutputError: it is not a folder, cannot be written, or is read.
    """
    path = _target(given)
    if path.exists() and not path.is_dir():
        raise OutputError(f"--out {given} is a file; give a folder")
    check_not_read(path, reads)
    return path


def file_target(given: Path | str, is_ours: Callable[[Path], bool], reads: Iterable[Path | str] = ()) -> Path:
    """As `folder_target`, for a file. An existing file may be replaced if it is empty or `is_ours` accepts it.

    Raises:
        OutputError: as `folder_target`, or the file is not one that this command writes.
    """
    path = _target(given)
    if path.is_dir():
        raise OutputError(f"{given} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise OutputError(f"{given} is a device or a pipe; give the name of a file")
    check_not_read(path, reads)
    if path.exists() and path.stat().st_size and not is_ours(path):
        raise OutputError(
            f"{given} exists, and is not a file that this command writes; give another name, or move it away"
        )
    return path


def is_results(path: Path) -> bool:
    """Whether a file is JSON with a `schema` key."""
    return "schema" in (read_record(path) or {})


def check_not_read(target: Path, reads: Iterable[Path | str]) -> None:
    """Refuse a target that is read, contains a path that is read, or lies in a folder that is read.

    Links, `..` and hard links are resolved.

    Raises:
        OutputError: names what is read.
    """
    own, above = _identity(target), {_identity(folder) for folder in (target, *target.parents)} - {None}
    for path in reads:
        read = Path(os.path.realpath(path))
        identity = _identity(read)
        if identity is None:
            continue
        if identity == own:
            raise OutputError(f"--out {target} is {path}, which is read; give another place")
        if identity in above:
            raise OutputError(f"--out {target} lies in {path}, which is read; give a place outside of it")
        if own is not None and any(_identity(folder) == own for folder in read.parents):
            raise OutputError(f"--out {target} holds {path}, which is read; give another place")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _target(given: Path | str) -> Path:
    """The absolute path of an output, without links and `..`.

    Raises:
        OutputError: the path is not possible, or may not be written.
    """
    shown = os.fsdecode(given).encode("utf-8", "backslashreplace").decode()
    if shown.startswith("-"):
        raise OutputError(f"--out {shown}: this is an option, not a path; give a path that does not begin with '-'")
    try:
        path = Path(os.path.realpath(given))
        os.fspath(path).encode()
        path.exists()
    except UnicodeEncodeError:
        raise OutputError(f"{shown}: this path is not UTF-8 throughout; give one that is") from None
    except ValueError:  # a NUL
        raise OutputError(f"{shown!r} cannot be the name of a file") from None
    except FileNotFoundError:
        raise OutputError(f"{shown} cannot be written: the current folder was deleted; go to another") from None
    except OSError as error:
        raise OutputError(f"{shown} cannot be written: {error.strerror}") from None
    if path.is_symlink():
        raise OutputError(f"{shown} cannot be written: its links lead in a circle")
    if any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
        raise OutputError(f"{shown} cannot be written: names have at most {_LONGEST_NAME} bytes here")
    above = path.parent
    while not above.exists():
        if above.is_symlink():
            raise OutputError(f"{shown} cannot be written: its links lead in a circle")
        above = above.parent
    if not above.is_dir():
        raise OutputError(f"{shown} cannot be written: {above} is a file")
    if not os.access(above, os.W_OK) and not path.exists():
        raise OutputError(f"{shown} cannot be written: no permission to write in {above}")
    return path
