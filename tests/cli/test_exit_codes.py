"""How a command ends: one law for every error of the machine, the input and the reader."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from lingraft.cli import main
from lingraft.cli.exit_codes import MACHINE_FAULTS, ending
from lingraft.errors import Interrupted, LingraftError, MachineError, ModelError, UserError

ROOT = Path(__file__).parents[2]


def below(error: LingraftError, cause: Exception) -> LingraftError:
    """As our code raises: what was being handled is hidden."""
    try:
        try:
            raise cause
        except type(cause):
            raise error from None
    except LingraftError as raised:
        return raised


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ENDINGS = {
    "signal": (Interrupted("SIGTERM"), 3, "stopped by SIGTERM"),
    "Ctrl-C before the signals are handled": (KeyboardInterrupt(), 3, "stopped by SIGINT"),
    "ours": (MachineError("no room"), 3, "no room"),
    "GPU memory": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), 3, "out of memory (CUDA"),
    "memory": (MemoryError(), 3, "out of memory; lower"),
    "memory in torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 3, "out of memory"),
    "mmap in torch": (RuntimeError("unable to mmap 9 bytes: Cannot allocate memory (12)"), 3, "out of memory"),
    "disk in safetensors": (SafetensorError("I/O error: No space left on device (os error 28)"), 3, "the disk is full"),
    "size in safetensors": (SafetensorError("I/O error: File too large (os error 27)"), 3, "ulimit -f"),
    "disk in torch": (RuntimeError("[enforce fail at inline_container.cc:858] . unexpected pos 1"), 3, "disk is full"),
    "disk in Arrow": (OSError("Error writing bytes to file. Detail: [errno 28] No space left"), 3, "the disk is full"),
    "threads": (RuntimeError("can't start new thread"), 3, "ulimit -u"),
    "below a library's": (
        caused(RuntimeError("generating the dataset"), OSError(errno.EIO, "x")),
        3,
        "the disk failed",
    ),
    "below ours": (below(ModelError("cannot be loaded"), OSError(errno.EMFILE, "Too many")), 3, "ulimit -n"),
    "no input can be told from it": (below(UserError("no such file"), FileNotFoundError(2, "x")), 2, "no such file"),
    "words of ours": (ModelError("'out of memory' is no model"), 2, "is no model"),
    "permission": (PermissionError(errno.EACCES, "Permission denied", "place"), 2, "place: Permission denied"),
    "links": (OSError(errno.ELOOP, "Too many levels of symbolic links", "place"), 2, "place: Too many levels"),
    "a link to itself": (RuntimeError("Symlink loop from '/x/a'"), 2, "'/x/a': this link leads to itself"),
    **{f"errno {n}": (OSError(n, os.strerror(n), "f"), 3, what) for n, (what, _) in MACHINE_FAULTS.items()},
}


@pytest.mark.parametrize(("error", "code", "message"), ENDINGS.values(), ids=ENDINGS)
def test_a_fault_of_the_machine_ends_with_3_and_wrong_input_with_2(error, code, message) -> None:
    found = ending(error)
    assert found is not None
    assert found.code == code
    assert message in found.message


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyError("a"), OSError("nothing known"), AssertionError()])
def test_a_fault_of_ours_has_no_ending_but_its_traceback(error) -> None:
    assert ending(error) is None


def lingraft(*arguments: str | bytes, **settings: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "lingraft", *arguments]
    settings = {"stdout": subprocess.PIPE, "env": environment, **settings}
    return subprocess.run(command, check=False, stderr=subprocess.PIPE, **settings)


@pytest.mark.integration
def test_a_reader_that_has_had_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        ended = lingraft("--help", stdout=closed)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.integration
def test_standard_output_that_is_full_ends_with_3() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = lingraft("--help", stdout=full)
    assert ended.returncode == 3
    assert ended.stderr.decode().count("\n") == 1
    assert "the disk is full" in ended.stderr.decode()


@pytest.mark.integration
def test_a_file_above_the_limit_ends_with_3_and_leaves_nothing(tmp_path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))

    out = tmp_path / "recipe.yaml"
    ended = lingraft("init", "--base", "some/base", "--learn", "swh_Latn", "-o", str(out), preexec_fn=limited)
    assert ended.returncode == 3, ended.stderr
    assert "ulimit -f" in ended.stderr.decode()
    assert not list(tmp_path.iterdir())


@pytest.mark.integration
def test_an_argument_that_is_no_utf8_ends_with_2() -> None:
    ended = lingraft(b"report", b"caf\xe9", b"--out", b"page.html")
    assert ended.returncode == 2
    assert b"is not UTF-8" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.integration
def test_letters_that_the_terminal_lacks_are_shown_as_numbers() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "ascii"}
    ended = lingraft("report", "ọ̀rọ̀", "--out", "page.html", env=environment)
    assert ended.returncode == 2
    assert b"there is no results.json" in ended.stderr


@pytest.mark.integration
def test_ctrl_c_while_libraries_load_ends_with_3() -> None:
    program = (
        "import sys, signal, builtins\n"
        "sys.argv = ['lingraft', '--help']\n"
        "from lingraft.cli import main\n"
        "load = builtins.__import__\n"
        "def stopped(name, *more):\n"
        "    if name == 'typer': builtins.__import__ = load; signal.raise_signal(signal.SIGINT)\n"
        "    return load(name, *more)\n"
        "builtins.__import__ = stopped\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, env=environment)
    assert ended.returncode == 3, ended.stderr
    assert b"stopped by SIGINT" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_a_stop_that_a_library_made_another_error_of_ends_with_3(monkeypatch, capsys) -> None:
    def swallow(**_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Interrupted:
            raise ValueError("could not determine the shape") from None

    monkeypatch.setattr("lingraft.cli.commands.app", swallow)
    monkeypatch.setattr(sys, "argv", ["lingraft"])
    handlers = {stop: signal.getsignal(stop) for stop in (signal.SIGTERM, signal.SIGINT)}
    with pytest.raises(SystemExit) as ended:
        main()
    for stop, handler in handlers.items():
        signal.signal(stop, handler)
    assert ended.value.code == 3
    assert "stopped by SIGTERM" in capsys.readouterr().err
