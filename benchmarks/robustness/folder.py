"""What lies in a folder, and what changed in it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

Contents = dict[str, tuple[str, str]]
"""Relative path -> what it is, and its digest or where it leads."""


def contents(folder: Path) -> Contents:
    """Everything below a folder; no link is followed, no pipe is opened."""
    found: Contents = {}
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(above, name)
            found[str(path.relative_to(folder))] = _described(path)
    return found


def _described(path: Path) -> tuple[str, str]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "link", os.readlink(path)  # noqa: PTH115 (as it stands)
    if stat.S_ISREG(mode):
        return "file", hashlib.sha256(path.read_bytes()).hexdigest()
    return ("folder" if stat.S_ISDIR(mode) else "other"), ""


def changed(before: Contents, after: Contents) -> set[str]:
    """Paths that were there and are gone, or are something else now."""
    return {path for path, what in before.items() if after.get(path) != what}


def files(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes, of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
