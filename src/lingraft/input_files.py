"""The files that a command reads: what they are is noted at its start, and compared before it publishes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lingraft.cache import file_fingerprint
from lingraft.errors import UserError

Files = Mapping[str, Iterable[Path]]
"""By what they are to the command: the base, a corpus."""


@dataclass(frozen=True)
class _Noted:
    """A file as it was: its content, and what of its inode changes with every write."""

    mark: str
    inode: tuple[int, ...]


class Sources:
    """Notes files when it is made; `find` gives them, and gives them again for each comparison."""

    def __init__(self, find: Callable[[], Files]) -> None:
        self._find = find
        self._noted = {role: {path: _noted(path) for path in paths} for role, paths in find().items()}

    def changed(self) -> dict[str, list[Path]]:
        """By role the files that are other than they were, are gone, or came to it."""
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
        """Compare.

        Raises:
            UserError: names what changed.
        """
        if changed := self.changed():
            raise changed_error(changed)


def changed_error(changed: Mapping[str, Iterable[Path]]) -> UserError:
    """The error that says which files changed, by role."""
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
        return _inode(path) == was.inode or file_fingerprint(path) == was.mark
    except OSError:
        return False


def _inode(path: Path) -> tuple[int, ...]:
    of: os.stat_result = path.stat()
    return (of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns)
