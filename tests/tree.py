"""What lies below a folder, to compare before and after: names, kinds, where links lead, and every byte."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def snapshot(folder: Path | str) -> dict[str, str]:
    """Each name below a folder, with what it is: `folder`, `-> TARGET` of a link, or the digest of a file.

    No link is followed; a name that is not UTF-8 is there too. Of a folder that is not there, nothing.
    """
    found: dict[str, str] = {}
    for above, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = os.path.join(above, name)
            found[os.path.relpath(path, folder)] = _kind(path)
    return found


def _kind(path: str) -> str:
    if os.path.islink(path):
        return f"-> {os.readlink(path)}"
    if os.path.isdir(path):
        return "folder"
    if not os.path.isfile(path):
        return "special"
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
