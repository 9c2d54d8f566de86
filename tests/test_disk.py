"""What the one module that renames and deletes touches, and what it leaves alone."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lingraft.cache import write_text
from lingraft.disk import link_to, locked, mark, new_file, new_folder, remove, remove_leftovers
from lingraft.errors import OutputError
from tree import snapshot

SOURCES = Path(__file__).parents[1] / "src" / "lingraft"
DESTRUCTIVE = {"rmtree", "unlink", "rmdir", "remove", "removedirs", "rename", "renames", "link", "hardlink_to"}
DESTRUCTIVE |= {"symlink", "symlink_to", "move", "flock", "lockf", "mkdtemp", "mkstemp"}


def calls(source: Path) -> list[str]:
    """Calls of names that delete, rename, link or lock, as `file:line name`."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            of_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
            is_rename = name == "replace" and (of_os or len(node.args) == 1)  # str.replace takes two
            of_list = name == "remove" and not of_os
            if is_rename or (name in DESTRUCTIVE and not of_list):
                found.append(f"{source.name}:{node.lineno} {name}")
    return found


def test_no_other_module_deletes_renames_links_or_locks() -> None:
    assert calls(SOURCES / "disk.py")
    assert [call for source in SOURCES.rglob("*.py") if source.name != "disk.py" for call in calls(source)] == []


def write_folder(path: Path) -> None:
    with new_folder(path) as new:
        (new / "made").write_text("made")


def write_file(path: Path) -> None:
    write_text(path, "made")


def hold(path: Path) -> None:
    with locked(path.with_name("out")):
        pass


def precious(folder: Path) -> Path:
    folder.mkdir()
    (folder / "thesis.tex").write_text("three years")
    return folder


@pytest.mark.parametrize("write", [write_folder, write_file])
@pytest.mark.parametrize("what", ["folder", "file", "link to a folder", "link to a file", "link to nothing"])
def test_what_has_the_name_of_a_staging_folder_and_is_not_ours_is_refused(tmp_path, write, what) -> None:
    staging = tmp_path / ".out.lingraft"
    kept = precious(tmp_path / "precious")
    if what == "folder":
        precious(staging)
    elif what == "file":
        staging.write_text("mine")
    else:
        staging.symlink_to({"folder": kept, "file": kept / "thesis.tex"}.get(what.split()[-1], tmp_path / "nowhere"))
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="was not made by lingraft"):
        write(tmp_path / "out")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", [".out.tmp", ".out.old", ".out.new", ".out.PID.tmp"])
@pytest.mark.parametrize("write", [write_folder, write_file])
def test_names_that_a_user_may_have_are_left_alone(tmp_path, write, name) -> None:
    kept = precious(tmp_path / "precious")
    name = name.replace("PID", str(os.getpid()))
    (tmp_path / name).symlink_to(kept)
    precious(tmp_path / f"{name}2")
    before = snapshot(tmp_path)
    write(tmp_path / "out")
    assert before.items() <= snapshot(tmp_path).items()


@pytest.mark.parametrize("inside", ["new", "notes.txt", "lingraft"])
@pytest.mark.parametrize("write", [write_folder, write_file])
def test_a_staging_folder_without_our_mark_or_with_more_than_ours_is_refused(tmp_path, write, inside) -> None:
    staging = tmp_path / ".out.lingraft"
    staging.mkdir()
    if inside == "notes.txt":
        leave(tmp_path / "out")
    (staging / inside).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="was not made by lingraft"):
        write(tmp_path / "out")
    assert snapshot(tmp_path) == before


def leave(path: Path, code: str = "(new / 'half').write_text('half')") -> None:
    """Kill a process while it writes a folder."""
    program = "import os, pathlib, sys\nfrom lingraft.disk import *\npath = pathlib.Path(sys.argv[1])\n"
    program += f"with new_folder(path) as new:\n {code}\n os._exit(7)"
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == 7


def test_what_a_killed_process_left_is_found_and_removed_and_nothing_else(tmp_path) -> None:
    kept = precious(tmp_path / "precious")
    leave(tmp_path / "out", f"os.symlink({str(kept)!r}, new / 'link')")
    assert (tmp_path / ".out.lingraft" / "new" / "link").is_symlink()
    before = snapshot(kept)
    remove_leftovers(tmp_path / "out")
    assert snapshot(kept) == before
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_what_stood_in_the_place_comes_back_where_a_process_was_killed_between_two_renames(tmp_path) -> None:
    precious(tmp_path / "out")
    before = snapshot(tmp_path / "out")
    leave(tmp_path / "out", "path.rename(new.parent / 'old')")
    assert not (tmp_path / "out").exists()
    remove_leftovers(tmp_path / "out")
    assert snapshot(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("lock", ["link", "link to nothing", "another's", "folder", "pipe"])
def test_a_lock_that_is_not_ours_is_refused_and_left_alone(tmp_path, lock) -> None:
    kept, out = precious(tmp_path / "precious"), tmp_path / "out"
    out.mkdir()
    match lock:
        case "link":
            (out / ".lock").symlink_to(kept / "thesis.tex")
        case "link to nothing":
            (out / ".lock").symlink_to(tmp_path / "nowhere")
        case "another's":
            (out / ".lock").write_text("pid 7")
        case "folder":
            precious(out / ".lock")
        case "pipe":
            os.mkfifo(out / ".lock")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="was not made by lingraft"):
        hold(out)
    assert snapshot(tmp_path) == before


def test_a_file_is_never_written_through_a_link_of_another_process(tmp_path) -> None:
    kept = precious(tmp_path / "precious")
    before = snapshot(kept)
    for pid in range(os.getpid() - 3, os.getpid() + 3):
        (tmp_path / f".r.json.{pid}.tmp").symlink_to(kept / "thesis.tex")
    write_file(tmp_path / "r.json")
    assert snapshot(kept) == before


def fail(folder: Path, first: str = "") -> None:
    if first:
        (folder / first).write_text("mine")
    raise ValueError


@pytest.mark.parametrize("place", [new_folder, new_file, lambda path: locked(path)], ids=["folder", "file", "lock"])
def test_folders_above_that_were_made_go_again_when_the_work_fails(tmp_path, place) -> None:
    precious(tmp_path / "there")
    before = snapshot(tmp_path)
    with pytest.raises(ValueError), place(tmp_path / "there" / "a" / "b" / "out"):  # noqa: PT011
        fail(tmp_path)
    assert snapshot(tmp_path) == before


def test_a_folder_that_holds_something_by_now_stays(tmp_path) -> None:
    with pytest.raises(ValueError), new_file(tmp_path / "a" / "b" / "out"):  # noqa: PT011
        fail(tmp_path, "a/mine")
    assert snapshot(tmp_path).keys() == {"a", "a/mine"}


def test_only_a_folder_that_we_marked_is_deleted_and_what_lies_in_it(tmp_path) -> None:
    kept = precious(tmp_path / "precious")
    mark(kept)
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / "lingraft").write_text("a file of this name")
    before = snapshot(tmp_path)
    for name in ("precious", "precious/thesis.tex", "link", "copied", "nowhere"):
        remove(tmp_path / name)
    assert snapshot(tmp_path) == before
    mark(tmp_path / "ours")
    (tmp_path / "ours" / "link").symlink_to(kept)
    (tmp_path / "ours" / "more").mkdir()
    remove(tmp_path / "ours" / "more")
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == ["lingraft", "link"]
    remove(tmp_path / "ours")
    assert snapshot(tmp_path) == before


def test_what_gets_its_final_name_was_flushed_first_and_its_folder_after(tmp_path, monkeypatch) -> None:
    events: list[str] = []

    def seen(descriptor: int) -> None:
        events.append(os.path.relpath(Path(f"/proc/self/fd/{descriptor}").readlink(), tmp_path))

    monkeypatch.setattr(os, "fsync", seen)
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, to: (events.append(f"rename to {to.name}"), rename(path, to))[1])
    with new_folder(tmp_path / "out") as new:
        (new / "deep").mkdir()
        (new / "deep" / "weights").write_text("w")
        (new / "config").write_text("c")
    new_place = ".out.lingraft/new"
    *flushed, name, placed, parent = events
    assert sorted(flushed) == [new_place, f"{new_place}/config", f"{new_place}/deep", f"{new_place}/deep/weights"]
    assert flushed.index(f"{new_place}/deep/weights") < flushed.index(f"{new_place}/deep") < flushed.index(new_place)
    assert (name, placed, parent) == (".out.lingraft", "rename to out", ".")


def test_a_file_in_a_folder_that_is_not_in_its_place_yet_needs_no_staging_of_its_own(tmp_path) -> None:
    with new_folder(tmp_path / "out") as new:
        write_text(new / "deep" / "file", "made")
        assert [path.name for path in (new / "deep").iterdir()] == ["file"]
    write_text(tmp_path / "out" / "deep" / "file", "made later")
    assert snapshot(tmp_path).keys() == {"out", "out/deep", "out/deep/file"}


def test_a_disk_without_room_for_the_mark_leaves_nothing(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for place in (new_folder, new_file, locked):
        with pytest.raises(OSError, match="No space left"), place(tmp_path / "a" / "out"):
            pass
        assert list(tmp_path.iterdir()) == []


def test_a_link_takes_the_place_of_a_file_and_is_relative(tmp_path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "model").mkdir()
    for folder in ("work", "model"):
        (tmp_path / folder / "w").write_text("w")
    link_to(tmp_path / "work" / "w", tmp_path / "model" / "w")
    assert str((tmp_path / "work" / "w").readlink()) == "../model/w"
    assert snapshot(tmp_path).keys() == {"work", "work/w", "model", "model/w"}
