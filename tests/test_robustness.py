"""A thousand wrong inputs and a few kills, and that what judges them can find a fault."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from robustness.families import FAMILIES
from robustness.folder import contents
from robustness.judge import Ended, outputs, problems
from robustness.killing import damage_newest, published
from robustness.watch import FORBIDDEN

pytestmark = pytest.mark.integration

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run_benchmark(name: str, *options: object) -> None:
    """In a process of its own, which forks."""
    command = [sys.executable, BENCHMARKS / name, *map(str, options)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]


@pytest.mark.xdist_group("fuzz")
def test_a_thousand_wrong_inputs_end_with_a_message_in_time_and_leave_nothing() -> None:
    run_benchmark("fuzz.py", "--inputs", 1000, "--seconds", 600)


@pytest.mark.xdist_group("kills")
def test_killed_commands_end_in_the_same_bytes() -> None:
    run_benchmark("kills.py", "--kills", 5, "--damaged", 2)


def ended(code: int, stderr: str = "", arguments: str = "report run --out page.html", **more: object) -> Ended:
    """An end that breaks no law, but for what is said."""
    before = {"run": ("folder", ""), "run/results.json": ("file", "1"), "text.jsonl": ("file", "2")}
    given = arguments.split()
    known = {"seconds": 1.0, "before": before, "after": before, "outputs": ["page.html"], "machine_fault": False}
    return Ended(arguments=given, code=code, stderr=stderr, **{**known, **more})


TRACEBACK = """Traceback (most recent call last):
  File "/x/lingraft/run.py", line 3, in run
  File "/x/lingraft/corpus/read.py", line 7, in _lines
  File "/x/json/decoder.py", line 9, in decode
json.decoder.JSONDecodeError: Expecting value
"""
BEFORE = ended(0).before
NEW = {**BEFORE, "page.html": ("file", "3")}
LAWS = {
    "done": (ended(0, after=NEW), []),
    "refused": (ended(2, "error: no such folder"), []),
    "a traceback": (ended(1, TRACEBACK), ["exit 1: json.decoder.JSONDecodeError in corpus/read.py:7 _lines"]),
    "killed by a signal": (ended(-11), ["ended with -11"]),
    "no message": (ended(2), ["exit 2 without a message of its own: nothing"]),
    "a full disk": (ended(3, "error: the disk is full", machine_fault=True), []),
    "a full disk that is none": (ended(3, "error: full"), ["exit 3 without a fault of the machine: error: full"]),
    "slow": (
        ended(-9, 'Thread 0x1 (most recent call first):\n  File "/x/lingraft/run.py", line 3 in run\n', seconds=25.0),
        ["over 20 seconds, or stuck, in run.py:3 run"],
    ),
    "left behind": (ended(2, "error: no", after=NEW), ["left after exit 2: page.html"]),
    "elsewhere": (ended(0, after={**BEFORE, ".page.tmp": ("file", "3")}), ["outside --out: .page.tmp"]),
    "lost": (
        ended(0, after={"run": BEFORE["run"], "text.jsonl": BEFORE["text.jsonl"]}),
        ["changed or lost: run/results.json"],
    ),
    "over an input": (
        ended(
            0,
            arguments="report run/results.json --out run/results.json",
            outputs=["run/results.json"],
            after={**BEFORE, "run/results.json": ("file", "3")},
        ),
        ["changed or lost: run/results.json"],
    ),
    "denied at the output": (
        ended(2, f"{FORBIDDEN} os.mkdir '/dev/.zer.lingraft'\nerror: no", outputs=["../../dev/zer"]),
        [],
    ),
    "denied": (ended(2, f"{FORBIDDEN} open '/etc/x'\nerror: no"), [f"{FORBIDDEN} open '/etc/x'"]),
}


@pytest.mark.parametrize(("end", "expected"), LAWS.values(), ids=LAWS)
def test_the_fuzzer_finds_what_breaks_a_law(end, expected) -> None:
    assert list(problems(end)) == expected


def test_an_output_is_found_where_its_links_lead(tmp_path) -> None:
    (tmp_path / "link").symlink_to("there")
    assert outputs(["report", "run", "--out", "link/page.html"], tmp_path) == ["there/page.html"]
    assert outputs(["run", "r.yaml", "--out=x", "--dry-run"], tmp_path) == []


ATTEMPTS = """
import os
from pathlib import Path

from robustness.watch import forbid_outside

forbid_outside(Path("inside"))
Path("inside/file").touch()
for attempt in (
    lambda: os.remove("precious"),
    lambda: open("new", "w"),
    lambda: os.rename("inside/file", "new"),
    lambda: os.system("touch new"),
    lambda: open("inside/../precious", "a"),
):
    try:
        attempt()
    except PermissionError:
        continue
    raise SystemExit("it was allowed")
"""


def test_nothing_outside_a_folder_is_written_by_a_process_that_is_confined_to_it(tmp_path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "precious").touch()
    (tmp_path / "attempts.py").write_text(ATTEMPTS)
    done = subprocess.run(
        [sys.executable, "attempts.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["attempts.py", "file", "inside", "precious"]
    assert done.stderr.count(FORBIDDEN) == 5


def test_a_link_that_leads_elsewhere_and_a_pipe_are_part_of_what_a_folder_contains(tmp_path) -> None:
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("1")
    before = contents(tmp_path)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "file").write_text("2")
    after = contents(tmp_path)
    assert {path for path in before if before[path] != after[path]} == {"link", "file"}
    assert before["pipe"] == after["pipe"] == ("other", "")


def test_what_is_published_is_compared_without_times_but_with_all_else(tmp_path) -> None:
    def of(seconds: float, bits: float) -> dict[str, bytes]:
        (tmp_path / "results.json").write_text(f'{{"a": [{{"seconds": {seconds}, "bits": {bits}}}]}}')
        return published(tmp_path, {})

    assert of(1, 2) == of(3, 2) != of(3, 4)


@pytest.mark.parametrize("seed", range(6))
def test_the_newest_artefact_of_a_run_is_damaged(tmp_path, seed) -> None:
    for at, name in enumerate(("old", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "fingerprint.json").write_text("{}")
        (tmp_path / name / "weights").write_bytes(b"1234")
        os.utime(tmp_path / name, (at, at))
    before = contents(tmp_path)
    assert damage_newest(tmp_path, random.Random(seed)).startswith("new/")
    after = contents(tmp_path)
    assert len([path for path in before if path.startswith("new/") and after.get(path) != before[path]]) == 1
    assert all(after[path] == before[path] for path in before if path.startswith("old"))


def test_families_cover_all_hundred_of_a_hundred_inputs() -> None:
    assert sum(share for _, share in FAMILIES.values()) == 100
