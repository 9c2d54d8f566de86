"""Mark the Trainer's checkpoints as finished, and find the newest undamaged one with its progress."""

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
    """A finished, undamaged checkpoint."""

    folder: Path
    progress: Mapping[str, Any]
    """The progress that `mark_finished` stored."""


def mark_finished(folder: Path, progress: Mapping[str, Any], beside: Iterable[Path] = ()) -> None:
    """Flush a checkpoint to the disk, then mark it as finished, with a digest of each file.

    The mark stores `progress`. `beside`: files in the folder above that resuming needs.
    """
    flush(folder)
    files = {**digests(folder), **{f"../{path.name}": file_fingerprint(path) for path in beside}}
    write_json(folder / _MARK, {"progress": dict(progress), "files": files})


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest undamaged checkpoint. Newer, damaged ones are removed with a warning."""
    for path in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        record = read_record(path / _MARK) or {}
        files, progress = record.get("files"), record.get("progress")
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
