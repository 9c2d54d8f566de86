"""The Trainer's checkpoints: which of them are whole, and what training knew when they were written."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.cache import damaged_files, digests, file_fingerprint, read_record, write_json
from lingraft.disk import flush, remove

logger = logging.getLogger(__name__)

_MARK = "finished.json"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was written to its end, and is as it was written."""

    folder: Path
    progress: Mapping[str, Any]
    """What `mark_finished` was given."""


def mark_finished(folder: Path, progress: Mapping[str, Any], beside: Iterable[Path] = ()) -> None:
    """Bring a checkpoint to the disk, then mark it as finished, with a digest of each file.

    `progress` is kept in the mark. `beside` are files in the folder above, without which it cannot be resumed.
    """
    flush(folder)
    files = {**digests(folder), **{f"../{path.name}": file_fingerprint(path) for path in beside}}
    write_json(folder / _MARK, {"progress": dict(progress), "files": files})


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint. Newer ones, which cannot be used, are removed, with a warning."""
    for path in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        mark = read_record(path / _MARK) or {}
        files, progress = mark.get("files"), mark.get("progress")
        if not isinstance(files, dict) or not isinstance(progress, dict):
            reason = "it was not written to its end"
        elif damaged := damaged_files(path, files):
            reason = f"not as it was written: {', '.join(damaged)}"
        else:
            return Checkpoint(path, progress)
        logger.warning("%s: removed, %s", path.name, reason)
        remove(path)
    return None


def step_of(path: Path) -> int:
    """The step of a checkpoint's folder."""
    name = _NAME.fullmatch(path.name)
    return int(name[1]) if name else -1
