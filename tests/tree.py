"""What lies below a folder, to compare before and after: names, kinds, where links lead, and every byte."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def snapshot(folder: Path) -> dict[str, str]:
    """Each name below a folder, with what it is: `folder`, `-> TARGET` of a link, or the digest of a file.

    No link is followed; a name that is not UTF-8 is there too. Of a folder that is not there, nothing.
    """
    return {
        str((Path(above) / name).relative_to(folder)): _kind(Path(above) / name)
        for above, folders, files in os.walk(folder)
        for name in [*folders, *files]
    }


def _kind(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if path.is_dir():
        return "folder"
    if not path.is_file():
        return "special"
    return hashlib.sha256(path.read_bytes()).hexdigest()
