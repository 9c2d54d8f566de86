"""Recognize published files by digest, so that a file that the user changed is never overwritten."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from lingraft.cache import file_fingerprint
from lingraft.checkpoints.weights import read_header
from lingraft.errors import ModelError


def changed(files: Mapping[str, Path], known: Mapping[str, Collection[str]]) -> list[str]:
    """Names of the files that a user changed: they exist, are undamaged, and have no known digest.

    A truncated or zeroed file holds no work of a user; it is written again.
    """
    return [
        name
        for name, file in files.items()
        if file.is_file() and file_fingerprint(file) not in known.get(name, ()) and not _is_damaged(file)
    ]


def _is_damaged(file: Path) -> bool:
    """Whether a file is unreadable in the format that its suffix names, or holds zeros alone."""
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
