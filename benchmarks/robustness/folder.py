"""What lies in a folder, and what changed in it."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

Contents = dict[str, tuple[str, str]]
"""Relative path -> what it is, and its digest or where it leads."""
_DIGESTS: dict[tuple[str, int, int], str] = {}
_TICKS = 10**8
"""Nanoseconds within which two writes may bear one time."""


def contents(folder: Path) -> Contents:
    """Everything below a folder; no link is followed, no pipe is opened."""
    found: Contents = {}
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(above, name)
            name = str(path.relative_to(folder))
            found[name] = _described(path, name)
    return found


def _described(path: Path, name: str) -> tuple[str, str]:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return "link", os.readlink(path)  # noqa: PTH115 (as it stands)
    if stat.S_ISREG(status.st_mode):
        return "file", _digest(path, name, status)
    return ("folder" if stat.S_ISDIR(status.st_mode) else "other"), ""


def _digest(path: Path, name: str, status: os.stat_result) -> str:
    """SHA-256, read once for each name, size and time; a file that was written a moment ago is read again."""
    key = name, status.st_size, status.st_mtime_ns
    if key not in _DIGESTS or time.time_ns() - status.st_mtime_ns < _TICKS:
        _DIGESTS[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return _DIGESTS[key]


def changed(before: Contents, after: Contents) -> set[str]:
    """Paths that were there and are gone, or are something else now."""
    return {path for path, what in before.items() if after.get(path) != what}


def files(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes, of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
