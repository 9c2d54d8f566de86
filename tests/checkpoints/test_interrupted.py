"""A merge that is killed, stopped, or runs out of room: at --out there is nothing, what was there, or the whole result.

Killed means SIGKILL: at every single step that touches the disk, one process after the other, and
at moments of a real command.
"""

from __future__ import annotations

import errno
import filecmp
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM

from command_line import Command, command
from lingraft import cli, merge

pytestmark = pytest.mark.integration

Contents = dict[str, bytes]


def contents(folder: Path) -> Contents:
    """Every file below a folder; of one that is not there, none."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def opens(file: Path) -> bool:
    """Whether the library of safetensors takes a file for weights."""
    try:
        with safe_open(file, "pt"):
            return True
    except SafetensorError:
        return False


def weights(folder: Path) -> dict[str, torch.Tensor] | None:
    """The weights that transformers loads from a folder, whatever they are; `None` if it loads none."""
    try:
        return dict(AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True).state_dict())
    except (OSError, ValueError, SafetensorError):
        return None


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Whole:
    """Merges that nobody disturbed: all that may ever be found on the disk."""

    def __init__(self, *folders: Path) -> None:
        self._contents = [contents(folder) for folder in folders]
        self._weights = [weights(folder) for folder in folders]
        assert None not in self._weights

    def check(self, out: Path) -> None:
        """Assert that nothing lies at `out` or beside it that loads and is wrong, and nothing half-made at `out`."""
        assert not out.exists() or contents(out) in self._contents
        for folder in out.parent.glob(f".{out.name}.*"):
            held = contents(folder)
            for name in (name for name in held if name.endswith(".safetensors") and opens(folder / name)):
                right = [whole.get(Path(name).name) for whole in self._contents]
                assert held[name] in right, f"{name} opens and is wrong"
            for held_folder in (folder, folder / "new", folder / "old"):
                loaded = weights(held_folder)
                assert loaded is None or any(same(loaded, right) for right in self._weights), f"{held_folder} is wrong"


STEPS = """
import os, signal, sys
from pathlib import Path

import lingraft.merging.vocabulary_alignment
from lingraft import merge

os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])  # one thread: the same steps each time
models, out = Path(sys.argv[1]), Path(sys.argv[2])
EVENTS = "open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock", "shutil.copyfile", "shutil.rmtree"
done = last = 0

def step():
    global done
    if done == last:
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1

def watch(event, arguments):
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        return
    of_any_place = event in ("os.remove", "os.rmdir", "fcntl.flock")
    if event in EVENTS and (of_any_place or str(arguments[0]).startswith(str(out.parent))):
        step()

def stepping(function):
    def call(*arguments):
        step()
        return function(*arguments)
    return call

for line in sys.stdin:
    scale, last = line.split()
    last = int(last)
    child = os.fork()
    if child == 0:
        sys.addaudithook(watch)
        os.pwrite, os.posix_fallocate = stepping(os.pwrite), stepping(os.posix_fallocate)
        os.fsync = lambda file: step()  # it takes time, and only a power cut would show it
        merge.vectors(models / "base", {models / "a": float(scale)}, out)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Takes a scale and a number of steps a line, merges, and kills itself when it has made so many steps."""


@pytest.fixture
def models(tmp_path, make_model, tokenizer) -> Path:
    """A folder with two tiny models, `base` and `a`, each in two shards."""
    for seed, name in enumerate(("base", "a")):
        model = make_model(num_hidden_layers=1)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
        model.to(torch.bfloat16).save_pretrained(tmp_path / "models" / name, max_shard_size="30KB")
        tokenizer.save_pretrained(tmp_path / "models" / name)
    return tmp_path / "models"


@pytest.fixture
def merge_up_to(models, tmp_path) -> Iterator[Callable[..., int]]:
    """Merge with a scale into `work/out`, in a process that is killed at a step; gives how it ended."""
    (tmp_path / "work").mkdir()
    program = [sys.executable, "-c", STEPS, str(models), str(tmp_path / "work" / "out")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(program, **pipes) as process:

        def call(scale: float, steps: int = -1) -> int:
            process.stdin.write(f"{scale} {steps}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield call
        process.stdin.close()
        process.wait(timeout=60)


def what_a_killed_process_leaves(folder: Path, written: Path) -> Path:
    """A staging folder with all that had been written."""
    code = "import os, pathlib, shutil, sys\nfrom lingraft.disk import new_folder\nout, written = sys.argv[1:]\n"
    code += (
        "with new_folder(pathlib.Path(out)) as new:\n shutil.copytree(written, new, dirs_exist_ok=True)\n os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, folder / "out", written], check=True)
    return folder / ".out.lingraft"


@pytest.mark.parametrize("before", ["nothing", "an earlier merge", "what a killed merge left"])
def test_a_merge_that_is_killed_at_any_step_leaves_nothing_wrong_and_starts_again(
    merge_up_to, models, tmp_path, before
) -> None:
    out = tmp_path / "work" / "out"
    right = merge.vectors(models / "base", {models / "a": 0.5}, tmp_path / "right")
    earlier = merge.vectors(models / "base", {models / "a": 0.25}, tmp_path / "earlier")
    left = what_a_killed_process_leaves(tmp_path / "left", earlier)
    whole, ended, steps = Whole(right, earlier), -signal.SIGKILL, 0
    while ended == -signal.SIGKILL:
        shutil.rmtree(out.parent)
        out.parent.mkdir()
        if before == "an earlier merge":
            shutil.copytree(earlier, out)
        if before == "what a killed merge left":
            shutil.copytree(left, out.with_name(".out.lingraft"))
        ended = merge_up_to(0.5, steps)
        whole.check(out)
        if ended == -signal.SIGKILL:
            assert merge_up_to(0.5) == 0
        assert contents(out) == contents(right)
        steps += 1
    assert ended == 0
    assert steps > 40


LARGE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 12, "vocab_size": 16000}


@pytest.fixture
def large(tmp_path, make_model, tokenizer) -> Path:
    """A folder with `base` and `a` of 45 MB each, so that the work lasts."""
    model = make_model(**LARGE).to(torch.bfloat16)
    for name in ("base", "a"):
        model.save_pretrained(tmp_path / "large" / name)
        tokenizer.save_pretrained(tmp_path / "large" / name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
    return tmp_path / "large"


def start(models: Path, out: Path, chunk: int | None = None) -> Command:
    """The command line in a process of its own; slowed down by small chunks."""
    settings = {"lingraft.merging.tensor_reader.CHUNK": chunk} if chunk else {}
    return Command("merge", "vectors", models / "a:0.5", "--base", models / "base", "--out", out, settings=settings)


def end(process: Command) -> tuple[int, str]:
    """Exit code and standard error."""
    code, _, error = process.end(60)
    return code, error


def test_a_command_that_is_killed_at_a_random_moment_leaves_nothing_wrong_and_starts_again(large, tmp_path) -> None:
    out, right, earlier = tmp_path / "out", tmp_path / "right", tmp_path / "earlier"
    merge.vectors(large / "base", {large / "a": 0.25}, earlier)
    command("--version")  # the first process waits for imports
    started = time.perf_counter()
    assert end(start(large, right))[0] == 0
    whole, lasted = Whole(right, earlier), time.perf_counter() - started
    for again in range(4):
        shutil.rmtree(out, ignore_errors=True)
        if again % 2:
            shutil.copytree(earlier, out)
        process = start(large, out)
        time.sleep(lasted * random.uniform(0.4, 1.0))
        with suppress(ProcessLookupError):  # it was faster
            process.send(signal.SIGKILL)
        end(process)
        whole.check(out)
        assert end(start(large, out))[0] == 0
        assert not filecmp.dircmp(out, right).diff_files
        assert contents(out) == contents(right)
        assert not out.with_name(".out.lingraft").exists()


def at_work(out: Path) -> None:
    """Wait until a merge writes weights."""
    deadline = time.monotonic() + 30
    while not list(out.parent.glob(f".{out.name}.lingraft/new/*.safetensors")):
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.005)
    time.sleep(0.1)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_merge_that_is_stopped_ends_at_once_with_3_and_leaves_nothing_behind(large, tmp_path, stop) -> None:
    process = start(large, tmp_path / "made" / "out", chunk=2**7)
    at_work(tmp_path / "made" / "out")
    started = time.perf_counter()
    process.send(stop)
    code, error = end(process)
    assert time.perf_counter() - started < 2
    assert code == 3
    assert error == f"error: stopped by {stop.name}; start the same command again to go on\n"
    assert not (tmp_path / "made").exists()


def test_a_merge_that_is_stopped_keeps_the_earlier_one(large, tmp_path) -> None:
    out = merge.vectors(large / "base", {large / "a": 0.25}, tmp_path / "made" / "out")
    earlier = contents(out)
    process = start(large, out, chunk=2**7)
    at_work(out)
    process.send(signal.SIGTERM)
    assert end(process)[0] == 3
    assert contents(out) == earlier
    assert list(out.parent.iterdir()) == [out]


def stop_me(*_: object) -> None:
    assert callable(signal.getsignal(signal.SIGTERM)), "it would stop pytest"
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_merge_that_is_stopped_while_its_threads_start_ends_with_3(run_merge, tmp_path, monkeypatch) -> None:
    real = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (stop_me(), real(thread)))
    code, error = run_merge(tmp_path / "out")
    assert (code, error) == (3, "error: stopped by SIGTERM; start the same command again to go on\n")
    assert not list(tmp_path.glob("*out*"))


def test_a_merge_that_is_stopped_while_it_reads_a_tokenizer_ends_with_3(
    run_merge, models, tmp_path, monkeypatch
) -> None:
    with (models / "a" / "tokenizer.json").open("a") as file:
        file.write("\n")  # other bytes, so that tokens are compared
    monkeypatch.setattr("tokenizers.Tokenizer", SimpleNamespace(from_file=stop_me))
    code, error = run_merge(tmp_path / "out")
    assert (code, error) == (3, "error: stopped by SIGTERM; start the same command again to go on\n")


def test_what_a_killed_merge_left_beside_its_result_is_removed_by_the_next(run_merge, tmp_path) -> None:
    assert run_merge(tmp_path / "made" / "out")[0] == 0
    killed = what_a_killed_process_leaves(tmp_path / "left", tmp_path / "made" / "out")
    killed.rename(tmp_path / "made" / ".out.lingraft")
    assert run_merge(tmp_path / "made" / "out")[0] == 0
    assert list((tmp_path / "made").iterdir()) == [tmp_path / "made" / "out"]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda shard: os.truncate(shard, 1000)], ids=["missing", "cut short"])
def test_a_result_that_lost_a_file_is_made_again(run_merge, tmp_path, spoil) -> None:
    out = tmp_path / "out"
    assert run_merge(out)[0] == 0
    right = contents(out)
    spoil(next(out.glob("*.safetensors")))
    assert run_merge(out)[0] == 0
    assert contents(out) == right


def test_of_two_merges_into_one_folder_the_second_is_refused_and_the_first_is_right(large, tmp_path) -> None:
    out = tmp_path / "made" / "out"
    first = start(large, out, chunk=2**9)
    at_work(out)
    first.send(signal.SIGSTOP)  # it has not ended before the second has begun, however slow the machine
    code, error = end(start(large, out))
    assert first.is_running
    first.send(signal.SIGCONT)
    assert code == 2
    assert error == f"error: {out}: another merge is writing this folder; wait for it or choose another --out\n"
    assert end(first)[0] == 0
    assert contents(out) == contents(merge.vectors(large / "base", {large / "a": 0.5}, tmp_path / "right"))
    assert list(out.parent.iterdir()) == [out]


@pytest.fixture
def run_merge(monkeypatch, capsys, models) -> Callable[[Path], tuple[int, str]]:
    """Merge by the command line, in this process; gives its exit code and standard error."""

    def call(out: Path) -> tuple[int, str]:
        arguments = ["vectors", f"{models / 'a'}:0.5", "--base", models / "base", "--out", out]
        monkeypatch.setattr(sys, "argv", ["lingraft", "merge", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr().err

    return call


def assert_disk_full(ended: tuple[int, str], out: Path) -> None:
    """Exit code 3, one message that says what to do, and nothing left behind."""
    code, error = ended
    assert code == 3
    assert "the disk is full" in error
    assert "make room and start the same command again" in error
    assert len(error.splitlines()) == 1
    assert list(out.parent.glob("*out*")) == []


@pytest.mark.parametrize("call", ["os.posix_fallocate", "os.pwrite", "os.fsync", "shutil.copyfile"])
def test_a_disk_that_becomes_full_ends_with_3_and_leaves_nothing_behind(
    run_merge, models, tmp_path, monkeypatch, call
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "made" / "out"
    out.parent.mkdir()
    with monkeypatch.context() as disk:
        disk.setattr(call, full)
        assert_disk_full(run_merge(out), out)
    assert run_merge(out)[0] == 0
    assert contents(out) == contents(merge.vectors(models / "base", {models / "a": 0.5}, tmp_path / "right"))


PAGE = os.sysconf("SC_PAGE_SIZE")
ROOM = 256 * PAGE


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A small disk."""
    folder.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "lingraft-test", folder], capture_output=True, timeout=10
    )
    if not made or made.returncode:
        pytest.skip("only root can mount the small disk that this test fills")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True, timeout=10)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as folder:
        yield folder


def leave(disk: Path, pages: int) -> Path:
    """Fill a disk with a file until so many pages are free."""
    others = disk / "others"
    free = shutil.disk_usage(disk).free - pages * PAGE
    with others.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free)
    assert shutil.disk_usage(disk).free == pages * PAGE
    return others


def test_whatever_room_a_disk_has_a_merge_is_there_whole_or_not_at_all(run_merge, models, disk, tmp_path) -> None:
    right = contents(merge.vectors(models / "base", {models / "a": 0.5}, tmp_path / "right"))
    needed = sum(-(-len(held) // PAGE) for held in right.values())
    ends = []
    for pages in [0, 1, needed // 2, *range(needed - 10, needed + 3)]:  # from none to room for all
        others = leave(disk, pages)
        ended = run_merge(disk / "out")
        ends.append(ended[0])
        if ended[0]:
            assert_disk_full(ended, disk / "out")
            others.unlink()
            assert run_merge(disk / "out")[0] == 0
        assert contents(disk / "out") == right
        others.unlink(missing_ok=True)
        shutil.rmtree(disk / "out")
    assert ends == sorted(ends, reverse=True)
    assert set(ends) == {3, 0}


@pytest.mark.parametrize("moment", ["shutil.disk_usage", "os.posix_fallocate", "os.fsync"])
def test_a_disk_that_another_fills_meanwhile_ends_with_3_and_leaves_nothing_behind(
    run_merge, models, disk, tmp_path, monkeypatch, moment
) -> None:
    module, name = moment.split(".")
    real = getattr(sys.modules[module], name)

    with monkeypatch.context() as others:

        def then_fill(*arguments: object) -> object:
            others.undo()
            result = real(*arguments)
            leave(disk, 0)
            return result

        others.setattr(moment, then_fill)
        assert_disk_full(run_merge(disk / "out"), disk / "out")
    (disk / "others").unlink()
    assert run_merge(disk / "out")[0] == 0
    assert contents(disk / "out") == contents(merge.vectors(models / "base", {models / "a": 0.5}, tmp_path / "right"))


def test_a_result_at_a_link_is_written_where_it_leads(run_merge, tmp_path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk/merged")
    for _ in range(2):
        assert run_merge(tmp_path / "out")[0] == 0
        assert (tmp_path / "out").is_symlink()
        assert [path.name for path in (tmp_path / "disk").iterdir()] == ["merged"]


def test_a_file_of_the_users_in_an_earlier_merge_is_not_lost(run_merge, models, tmp_path) -> None:
    out = tmp_path / "out"
    merge.vectors(models / "base", {models / "a": 0.25}, out)
    (out / "results.json").write_text("{}")
    code, error = run_merge(out)
    assert code == 2
    assert "holds results.json of yours" in error
    assert (out / "results.json").exists()
