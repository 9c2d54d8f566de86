"""An audit hook that keeps a process from writing, starting or reaching anything outside one folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORBIDDEN = "[outside the folder]"
"""What a line on standard error begins with for each attempt."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ONE_PATH = ("os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.chmod", "os.chown", "shutil.rmtree")
_TWO_PATHS = ("os.rename", "os.link", "shutil.move")
_ELSEWHERE = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")


def forbid_outside(folder: Path) -> None:
    """From now on such an attempt is said on standard error and fails; it cannot be undone in this process."""
    inside = f"{os.path.realpath(folder)}{os.sep}"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _PATHS:
            return
        for path in _PATHS[event](arguments):
            if not isinstance(path, str | bytes | os.PathLike):
                continue  # a descriptor of what was opened before
            place = os.path.realpath(os.fsdecode(path))
            if place != os.devnull and not f"{place}{os.sep}".startswith(inside):
                os.write(2, f"\n{FORBIDDEN} {event} {place!a}\n".encode())
                raise PermissionError(13, "outside the folder", os.fsdecode(path))

    sys.addaudithook(hook)


_PATHS: dict[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]] = {
    "open": lambda arguments: arguments[:1] if (arguments[2] or 0) & WRITING else (),
    "os.symlink": lambda arguments: arguments[1:2],
    **dict.fromkeys(_ONE_PATH, lambda arguments: arguments[:1]),
    **dict.fromkeys(_TWO_PATHS, lambda arguments: arguments[:2]),
    **dict.fromkeys(_ELSEWHERE, lambda arguments: ("/another/process",)),
}
