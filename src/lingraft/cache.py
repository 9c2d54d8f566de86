"""Cached artefacts on disk: written atomically, and identified by a fingerprint.

The fingerprint of an artefact covers the files, settings and earlier artefacts that it was made from.
It is cheap: of a large file it reads the size and sampled blocks only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lingraft.disk import new_file, new_folder, remove

logger = logging.getLogger(__name__)

_WHOLE_FILE_BYTES = 16 * 2**20
_SAMPLED_BLOCKS = 64
_BLOCK_BYTES = 64 * 2**10
_RECORD = "fingerprint.json"


def fingerprint(value: Any) -> str:
    """A 16-digit name for any value that JSON can hold, the same on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """Fingerprint of a file's size and content; above 16 MiB, of 64 evenly spaced blocks of 64 KiB."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _WHOLE_FILE_BYTES:
            digest.update(file.read())
        else:
            for block in range(_SAMPLED_BLOCKS):
                file.seek((size - _BLOCK_BYTES) * block // (_SAMPLED_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()[:16]


def files_fingerprint(paths: Iterable[Path]) -> str:
    """Fingerprint of files by name and content, wherever they lie."""
    return fingerprint({path.name: file_fingerprint(path) for path in paths})


def write_text(path: Path, text: str) -> None:
    """Write a file atomically."""
    with new_file(path) as new:
        new.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; a number that is not finite is an error."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """JSON for people to read; a number that is not finite is an error."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def copy_files(names: Iterable[str], source: Path, target: Path) -> None:
    """Copy the files that exist from one folder to another."""
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def cached(path: Path, inputs: dict[str, Any], make: Callable[[Path], None], elsewhere: Iterable[Path] = ()) -> Path:
    """The artefact folder `path`, made from `inputs` unless a finished one of the same inputs is there, and whole.

    `make` fills a temporary folder, which is renamed when it returns. The record in the folder says what the
    artefact was made from, for users too, and holds a digest of each file. Where a finished one of the same inputs
    lies `elsewhere`, it is copied.
    """
    if is_cached(path, inputs):
        return path
    for twin in elsewhere:
        if is_whole(twin, inputs):
            try:
                return _copied(twin, path, inputs)
            except _ChangedError:
                logger.warning("%s: not taken from %s, which changed meanwhile", path.name, twin)
    with new_folder(path) as temporary:
        make(temporary)
        record = {"fingerprint": fingerprint(inputs), "inputs": inputs, "files": digests(temporary)}
        write_json(temporary / _RECORD, record)
    return path


class _ChangedError(Exception):
    """An artefact was made anew while it was copied."""


def _copied(twin: Path, path: Path, inputs: dict[str, Any]) -> Path:
    """Copy an artefact, and compare the copy with the record that it had."""
    record = _record(twin)
    with new_folder(path) as temporary:
        try:
            shutil.copytree(twin, temporary, ignore=shutil.ignore_patterns(_RECORD), dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
            raise _ChangedError from error
        if record is None or record["fingerprint"] != fingerprint(inputs) or digests(temporary) != record["files"]:
            raise _ChangedError
        write_json(temporary / _RECORD, record)
    logger.info("%s: taken from %s", path.name, twin)
    return path


def is_cached(path: Path, inputs: dict[str, Any]) -> bool:
    """Whether the artefact folder `path` exists, from these inputs and undamaged; logs why not."""
    if not path.is_dir():
        return False
    if fault := _fault(path, inputs):
        logger.warning("%s: made again, %s", path.name, fault)
        return False
    logger.info("%s: finished before, kept", path.name)
    return True


def is_whole(path: Path, inputs: dict[str, Any]) -> bool:
    """Whether a folder is the undamaged artefact of these inputs; says nothing."""
    return path.is_dir() and _fault(path, inputs) is None


def _fault(path: Path, inputs: dict[str, Any]) -> str | None:
    """Why a folder is not the undamaged artefact of these inputs; `None` where it is."""
    record = _record(path)
    if record is None:
        return f"{_RECORD} is missing or damaged"
    if record["fingerprint"] != fingerprint(inputs):
        return f"its inputs changed: {', '.join(changed_inputs(path, inputs))}"
    if damaged := damaged_files(path, record["files"]):
        return f"not as it was written: {', '.join(damaged)}"
    return None


def digests(folder: Path) -> dict[str, str]:
    """The fingerprint of every file below a folder, by its relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_fingerprint(path) for path in files}


def damaged_files(folder: Path, known: Mapping[str, str]) -> list[str]:
    """Names of files that differ from their digests: truncated, zeroed, replaced or removed."""
    return [
        name
        for name, digest in known.items()
        if not (folder / name).is_file() or file_fingerprint(folder / name) != digest
    ]


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is no file, or it holds no JSON object."""
    try:
        record = read_json(path)
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _record(path: Path) -> dict[str, Any] | None:
    """The record of an artefact folder; None where it is missing or damaged."""
    record = read_record(path / _RECORD) or {}
    forms = {"fingerprint": str, "inputs": dict, "files": dict}
    return record if all(isinstance(record.get(key), form) for key, form in forms.items()) else None


def is_artefact(path: Path) -> bool:
    """Whether a folder is an artefact, damaged or not."""
    return (path / _RECORD).exists()


def records(work: Path) -> dict[Path, int]:
    """The artefact folders below a folder -> modification time of their records."""
    return {record.parent: record.stat().st_mtime_ns for record in work.rglob(_RECORD)}


def discard(work: Path, known: Mapping[Path, int]) -> None:
    """Remove the artefacts below a folder that are newer than `known`, a result of `records`."""
    for path, modified in records(work).items():
        if known.get(path) != modified:
            logger.warning("%s: discarded", path.relative_to(work))
            remove(path)


def recorded_inputs(path: Path) -> dict[str, Any]:
    """The inputs of the artefact folder `path`; empty where there is none, or its record is damaged."""
    inputs: dict[str, Any] = (_record(path) or {}).get("inputs", {})
    return inputs


def changed_inputs(path: Path, inputs: dict[str, Any]) -> list[str]:
    """Names of the inputs that differ from those that an artefact was made from."""
    recorded, now = recorded_inputs(path), json.loads(json.dumps(inputs))
    return [name for name in {**recorded, **now} if recorded.get(name) != now.get(name)]


def artefact_fingerprint(path: Path) -> str:
    """Fingerprint of a finished artefact: its inputs and its files.

    The files count too, so that later steps run again where a GPU or another library gave other bytes from the
    same inputs.
    """
    record = _record(path)
    assert record is not None, f"{path} is not finished"
    return fingerprint([record["fingerprint"], record["files"]])
