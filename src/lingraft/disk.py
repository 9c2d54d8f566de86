"""The only module that creates temporary names, renames, links, locks and deletes.

A file or folder is written in a staging folder beside its place, and renamed when it is complete:

    .NAME.lingraft/
        lingraft        marks the folder as lingraft's; the writing process locks it
        new             the file or folder that is being written
        old             the earlier folder, until the new one has its place

A staging folder without the mark is refused. By the mark, the next process finds what a killed process left. No link
is followed.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lingraft.errors import OutputError

logger = logging.getLogger(__name__)

MARK, LOCK = "lingraft", ".lock"
"""Files that mark a folder as lingraft's: for deletion, and for locking."""
_entered_here: set[Path] = set()
"""Staging folders that this process fills."""
_TOKEN = b"lingraft 4b7e92d05c31a86f: made by lingraft, which holds it by a lock and removes it\n"


@contextmanager
def new_folder(path: Path, busy: str = "another process is writing this folder; wait for it") -> Iterator[Path]:
    """A new folder that is flushed and renamed to `path` when the block ends without an error.

    An earlier folder stays until the new one is complete. Leftovers of a killed process are removed.

    Raises:
        OutputError: another process is writing it (message `busy`), or the staging folder is not lingraft's.
    """
    with _staging(path, busy) as staging:
        new, old = staging / "new", staging / "old"
        new.mkdir()
        yield new
        _give_mode(new)
        flush(new)
        if os.path.lexists(path):
            path.rename(old)
        new.rename(path)
        _sync(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """As `new_folder`, for a file that the block writes; an earlier file is replaced atomically.

    Within a staging folder the file is written directly, since the folder is renamed as a whole.

    Raises:
        OutputError: as `new_folder`.
    """
    if any(path.is_relative_to(staging) for staging in _entered_here):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with _staging(path) as staging:
        new = staging / "new"
        yield new
        _sync(new)
        new.replace(path)
        _sync(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what a killed process left while it wrote `path`."""
    if os.path.lexists(_staging_of(path)):
        with _staging(path):
            pass


def remove_leftovers_in(folder: Path) -> None:
    """As `remove_leftovers`, for all files below a folder."""
    for staging in list(folder.rglob(_staging_of(Path("*")).name)):
        remove_leftovers(staging.with_name(staging.name.removeprefix(".").removesuffix(".lingraft")))


def mark(folder: Path) -> None:
    """Create a folder that `remove` may delete, with its parents; a folder with content stays unmarked."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        os.close(_open_marker(folder / MARK)[0])


def remove(path: Path) -> None:
    """Delete a marked folder, or a path in one; nothing else."""
    if any(_is_token(folder / MARK) for folder in (path, *path.parents)) and not path.is_symlink():
        for inside in path.iterdir() if path.is_dir() else ():
            if inside.name != MARK:  # the mark last, so that a process killed here leaves a marked folder
                _delete(inside)
        _delete(path)


def withdraw(folder: Path) -> None:
    """Delete a published folder, atomically for other processes."""
    with _staging(folder) as staging:
        folder.rename(staging / "new")  # not `old`, which would get its place back
        _sync(folder.parent)


def take_back(file: Path) -> None:
    """Delete a file that this process has just written."""
    file.unlink(missing_ok=True)


def link_to(file: Path, target: Path) -> None:
    """Replace a file by a relative link to an equal file, atomically."""
    with _staging(file) as staging:
        new = staging / "new"
        new.symlink_to(os.path.relpath(target, file.parent))
        new.replace(file)
        _sync(file.parent)


def share(file: Path, target: Path) -> None:
    """Hard-link a file; copy it where the file system has no hard links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


@contextmanager
def locked(
    folder: Path, busy: str = "another run is at work in this folder; wait for it or choose another --out"
) -> Iterator[None]:
    """Lock a folder for this process; the lock ends with the process.

    A folder that was created for the lock and is otherwise empty is removed when the block raises.

    Raises:
        OutputError: the folder cannot be written, or another process holds it (message `busy`).
    """
    lock = folder / LOCK
    with ExitStack() as stack:
        try:
            stack.enter_context(_parents(lock))
            is_new = stack.enter_context(_held(lock, OutputError(f"{folder}: {busy}")))
        except _GoneError:
            raise OutputError(f"{folder} was removed by another process just now; start again") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OutputError(f"{folder} cannot be written: {error.strerror}") from None
        try:
            yield
        except BaseException:
            if is_new and [path.name for path in folder.iterdir()] == [LOCK]:
                lock.unlink()
            raise


def flush(path: Path) -> None:
    """Flush a file, or a folder with everything below it, and its directory entry to the disk."""
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            if not (Path(folder) / name).is_symlink():
                _sync(Path(folder) / name)
        _sync(Path(folder))
    if path.is_file():
        _sync(path)
    _sync(path.parent)


def _give_mode(folder: Path) -> None:
    """Give all files the mode of the folder, which follows the umask; libraries create some files as private."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that do not sync folders
            raise
    finally:
        os.close(descriptor)


def _staging_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lingraft")


@contextmanager
def _staging(path: Path, busy: str | None = None) -> Iterator[Path]:
    """An empty, locked staging folder for `path`, removed after the block.

    While another process holds it: raise with the message `busy`, or wait where `busy` is None.
    """
    staging = _staging_of(path)
    with _parents(path), _entered(staging, OutputError(f"{path}: {busy}") if busy else None):
        try:
            _clear(staging, path)
            _entered_here.add(staging)
            yield staging
        finally:
            _entered_here.discard(staging)
            _clear(staging, path)
            (staging / MARK).unlink(missing_ok=True)
            with suppress(OSError):  # another process has entered it just now
                staging.rmdir()


@contextmanager
def _entered(staging: Path, busy: OutputError | None) -> Iterator[None]:
    """Create a staging folder, or take over one that a killed process left, and lock it."""
    while True:
        try:
            with suppress(FileExistsError):
                staging.mkdir()
            if staging.is_symlink() or not staging.is_dir():
                raise _not_ours(staging)
            inside = {path.name for path in staging.iterdir()}
            if (inside and MARK not in inside) or inside - {MARK, "new", "old"}:
                raise _not_ours(staging)
            with _held(staging / MARK, busy):
                yield
                return
        except _GoneError:  # whoever held it has just ended
            continue
        except OSError:
            with suppress(OSError):  # empty where the disk was full
                staging.rmdir()
            raise


def _clear(staging: Path, path: Path) -> None:
    """Restore the earlier folder where the new one was not renamed, and delete the rest."""
    new, old = staging / "new", staging / "old"
    if os.path.lexists(old) and not os.path.lexists(path):
        old.rename(path)
    for left in (new, old):
        _delete(left)


def _delete(path: Path) -> None:
    """Delete a file, folder or link (never its target); does nothing where it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _not_ours(path: Path) -> OutputError:
    return OutputError(f"{path} is in the way and was not made by lingraft; move it away")


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Create the parent folders of a path; created, empty folders are removed when the block raises."""
    created: list[Path] = []
    try:
        for folder in reversed([folder for folder in path.parents if not folder.exists()]):
            with suppress(FileExistsError):
                folder.mkdir()
                created.append(folder)
        yield
    except BaseException:
        with suppress(OSError):  # a folder that holds something by now stays
            for folder in reversed(created):
                folder.rmdir()
        raise


class _GoneError(Exception):
    """The folder was removed in the meantime."""


@contextmanager
def _held(marker: Path, busy: OutputError | None) -> Iterator[bool]:
    """Lock a marker until the block or the process ends; yields whether it is new. `busy`: see `_staging`."""
    while True:
        descriptor, is_new = _open_marker(marker)
        try:
            is_free = True
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                is_free = False
            except OSError:
                logger.warning("%s: this file system has no locks; start no second command on it", marker.parent)
            if not is_free:  # raised here, so that it has no OSError as context
                assert busy is not None
                raise busy
            if not _is_still(marker, descriptor):  # whoever held it has just removed it
                continue
            yield is_new
            return
        finally:
            os.close(descriptor)


def _open_marker(marker: Path) -> tuple[int, bool]:
    """Open or create a marker, and whether it is new; follows no link, and refuses files that are no marker."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        try:
            descriptor = os.open(marker, flags | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                os.write(descriptor, _TOKEN)
            except OSError:  # the disk is full
                marker.unlink()
                os.close(descriptor)
                raise
            return descriptor, True
        except FileNotFoundError:
            raise _GoneError from None
        except FileExistsError:
            pass
        try:
            descriptor = os.open(marker, flags)
        except FileNotFoundError:  # removed between the two
            continue
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise _not_ours(marker) from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or os.pread(descriptor, 4096, 0) not in (_TOKEN, b""):
            os.close(descriptor)
            raise _not_ours(marker)
        return descriptor, False


def _is_token(marker: Path) -> bool:
    with suppress(OSError):
        return not marker.is_symlink() and marker.is_file() and marker.read_bytes() == _TOKEN
    return False


def _is_still(marker: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(marker.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
