"""The only module that makes temporary names, renames, links, locks and deletes.

What is being written lies in a staging folder beside its place, and is renamed when it is whole:

    .NAME.lingraft/
        lingraft        marks the folder as ours; the process that writes holds it by a lock
        new             the file or folder that is being written
        old             the folder that stood in the place, until the new one has it

A staging folder without the mark is not ours and is refused. The mark is how the next process finds what a
killed one left. No link is followed.
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
"""Files that mark a folder as ours: one to delete, and one to hold."""
_entered_here: set[Path] = set()
"""Staging folders that this process fills."""
_TOKEN = b"lingraft 4b7e92d05c31a86f: made by lingraft, which holds it by a lock and removes it\n"


@contextmanager
def new_folder(path: Path, busy: str = "another process is writing this folder; wait for it") -> Iterator[Path]:
    """A new folder that is flushed to the disk, and takes the place of `path`, when the block ends well.

    What stood in the place stays until the new one is whole. What a killed process left is removed.

    Raises:
        OutputError: another process is writing it, in the words of `busy`; or something of that name is not ours.
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
    """As `new_folder`, the name of a file that the block writes; a file in its place is replaced at once.

    In a folder that is not in its place yet, a file is whole when the folder is.

    Raises:
        OutputError: as there.
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
    """Remove what a process left that was killed while it wrote `path`."""
    if os.path.lexists(_staging_of(path)):
        with _staging(path):
            pass


def remove_leftovers_in(folder: Path) -> None:
    """The same for all files below a folder."""
    for staging in list(folder.rglob(_staging_of(Path("*")).name)):
        remove_leftovers(staging.with_name(staging.name.removeprefix(".").removesuffix(".lingraft")))


def mark(folder: Path) -> None:
    """Make a folder that `remove` may delete, with its parents; one that is there and not empty stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        os.close(_open_marker(folder / MARK)[0])


def remove(path: Path) -> None:
    """Delete a folder that we marked, or what lies in one; nothing else."""
    if any(_is_token(folder / MARK) for folder in (path, *path.parents)) and not path.is_symlink():
        for inside in path.iterdir() if path.is_dir() else ():
            if inside.name != MARK:  # last, so that a process that is killed here leaves a folder that is marked
                _delete(inside)
        _delete(path)


def withdraw(folder: Path) -> None:
    """Delete a folder that was laid out for the user; at once, and whole, as others see it."""
    with _staging(folder) as staging:
        folder.rename(staging / "new")  # not `old`, which would get its place back
        _sync(folder.parent)


def take_back(file: Path) -> None:
    """Delete a file that this process wrote a moment ago."""
    file.unlink(missing_ok=True)


def link_to(file: Path, target: Path) -> None:
    """Put a relative link to `target` in the place of a file that is the same; at once, so that one is always there."""
    with _staging(file) as staging:
        new = staging / "new"
        new.symlink_to(os.path.relpath(target, file.parent))
        new.replace(file)
        _sync(file.parent)


def share(file: Path, target: Path) -> None:
    """Give a file a second name, where the file system has it; a copy elsewhere."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


@contextmanager
def locked(
    folder: Path, busy: str = "another run is at work in this folder; wait for it or choose another --out"
) -> Iterator[None]:
    """Hold a folder for this process alone; the lock goes with the process, however it ends.

    A folder that was made for it, and in which nothing else came to be, goes again when the block raises.

    Raises:
        OutputError: the folder cannot be written, or another process holds it, in the words of `busy`.
    """
    lock = folder / LOCK
    with ExitStack() as held:
        try:
            held.enter_context(_parents(lock))
            is_new = held.enter_context(_held(lock, OutputError(f"{folder}: {busy}")))
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
    """Bring a file, or a folder with all files and folders below it, and its name to the disk."""
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            if not (Path(folder) / name).is_symlink():
                _sync(Path(folder) / name)
        _sync(Path(folder))
    if path.is_file():
        _sync(path)
    _sync(path.parent)


def _give_mode(folder: Path) -> None:
    """Let all files have the mode that the folder, made under this umask, has: libraries make some private."""
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
    """An empty staging folder of `path`, held by this process, and gone after the block.

    While another process holds it: an error in the words of `busy`, or where there are none, wait.
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
    """Make a staging folder, or enter one that a killed process left, and hold it."""
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
    """Put back what stood in the place, where the new one has not come to it, and delete the rest."""
    new, old = staging / "new", staging / "old"
    if os.path.lexists(old) and not os.path.lexists(path):
        old.rename(path)
    for left in (new, old):
        _delete(left)


def _delete(path: Path) -> None:
    """Delete whatever it is; of a link the link alone, and nothing where another process was faster."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _not_ours(path: Path) -> OutputError:
    return OutputError(f"{path} is in the way and was not made by lingraft; move it away")


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Make the folders above a path; those that are empty go again when the block raises."""
    made: list[Path] = []
    try:
        for folder in reversed([folder for folder in path.parents if not folder.exists()]):
            with suppress(FileExistsError):
                folder.mkdir()
                made.append(folder)
        yield
    except BaseException:
        with suppress(OSError):  # a folder that holds something by now stays
            for folder in reversed(made):
                folder.rmdir()
        raise


class _GoneError(Exception):
    """A folder that was there a moment ago is no more."""


@contextmanager
def _held(marker: Path, busy: OutputError | None) -> Iterator[bool]:
    """Hold a marker by a lock, which goes with the process; gives whether it was made here. `busy`: see `_staging`."""
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
            if not is_free:  # said here, where no fault of the system stands behind it
                assert busy is not None
                raise busy
            if not _is_still(marker, descriptor):  # whoever held it has just removed it
                continue
            yield is_new
            return
        finally:
            os.close(descriptor)


def _open_marker(marker: Path) -> tuple[int, bool]:
    """A descriptor of a marker, and whether it is new; no link is followed, and no file of others is touched."""
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
