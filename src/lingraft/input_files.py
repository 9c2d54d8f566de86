"""Detect changed input files: a command records their fingerprints at its start and compares before it publishes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lingraft.cache import file_fingerprint
from lingraft.errors import UserError

Files = Mapping[str, Iterable[Path]]
"""Role of files in a command (the base, a corpus) -> their paths."""


@dataclass(frozen=True)
class _Noted:
    """A recorded file: its fingerprint, and the inode fields that change with every write."""

    digest: str
    inode: tuple[int, ...]


class Sources:
    """Records the files that `find` gives, and compares them with the files that it gives later."""

    def __init__(self, find: Callable[[], Files]) -> None:
        self._find = find
        self._noted = {role: {path: _noted(path) for path in paths} for role, paths in find().items()}

    def changed(self) -> dict[str, list[Path]]:
        """Role -> files that changed, were removed or were added."""
        try:
            found = {role: set(paths) for role, paths in self._find().items()}
        except UserError:  # some are gone
            found = {role: set(paths) for role, paths in self._noted.items()}
        changed = {
            role: sorted(
                {path for path, was in noted.items() if not _is_still(path, was)} | (found.get(role, set()) ^ {*noted})
            )
            for role, noted in self._noted.items()
        }
        return {role: paths for role, paths in changed.items() if paths}

    def check(self) -> None:
        """Raise where a file changed.

        Raises:
            UserError: names what changed.
        """
        if changed := self.changed():
            raise changed_error(changed)


def changed_error(changed: Mapping[str, Iterable[Path]]) -> UserError:
    """The error that names the changed files by role."""
    lines = [f"  {role}: {path}" for role, paths in changed.items() for path in paths]
    more = [f"  and {len(lines) - 10} more"] if len(lines) > 10 else []
    return UserError(
        "\n".join(
            [
                "these files changed while they were being used, so nothing is published:",
                *lines[:10],
                *more,
                "start the same command again, and leave them as they are until it is done; what they went into is "
                "made again",
            ]
        )
    )


def _noted(path: Path) -> _Noted:
    return _Noted(file_fingerprint(path), _inode(path))


def _is_still(path: Path, was: _Noted) -> bool:
    try:
        return _inode(path) == was.inode or file_fingerprint(path) == was.digest
    except OSError:
        return False


def _inode(path: Path) -> tuple[int, ...]:
    status: os.stat_result = path.stat()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
