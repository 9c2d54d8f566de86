"""Files that were laid out for a user, known by digest: what the user has changed since is never written over."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from lingraft.cache import file_fingerprint
from lingraft.checkpoints.weights import read_header
from lingraft.errors import ModelError


def changed(files: Mapping[str, Path], known: Mapping[str, Collection[str]]) -> list[str]:
    """Names of those files that are there, are none of the known ones of their name, and are whole.

    A file that was cut or zeroed holds nothing that somebody has written, and is made again.
    """
    return [
        name
        for name, file in files.items()
        if file.is_file() and file_fingerprint(file) not in known.get(name, ()) and not _is_damaged(file)
    ]


def _is_damaged(file: Path) -> bool:
    """Whether no program could read a file as what its name says."""
    if file.suffix == ".safetensors":
        try:
            read_header(file)
        except ModelError:
            return True
        return False
    content = file.read_bytes()
    if file.suffix == ".json":
        try:
            json.loads(content)
        except (ValueError, RecursionError):
            return True
    return not content.strip(b"\0")
