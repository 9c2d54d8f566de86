import os
import random
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from lingraft.cache import (
    artefact_fingerprint,
    cached,
    file_fingerprint,
    fingerprint,
    is_cached,
    read_json,
    recorded_inputs,
    write_json,
    write_text,
)
from lingraft.disk import locked, new_folder
from lingraft.errors import OutputError

OVER_SAMPLING_LIMIT = 16 * 2**20 + 12345


def run_python(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def break_off(path, error):
    with new_folder(path) as folder:
        (folder / "new").write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_new_folder_leaves_nothing_when_its_block_raises(tmp_path, error):
    with pytest.raises(error):
        break_off(tmp_path / "made", error)
    assert list(tmp_path.iterdir()) == []


def test_new_folder_keeps_the_old_one_when_its_block_raises(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "old").write_text("old")
    with suppress(ValueError):
        break_off(tmp_path / "made", ValueError)
    assert contents(tmp_path) == {"made/old": "old"}


def test_new_folder_replaces_the_old_one_only_at_the_end(tmp_path):
    path = tmp_path / "made"
    path.mkdir()
    (path / "old").write_text("old")
    with new_folder(path) as folder:
        (folder / "new").write_text("new")
        assert contents(path) == {"old": "old"}
    assert contents(tmp_path) == {"made/new": "new"}


def test_new_folder_takes_nothing_over_from_a_killed_process(tmp_path):
    code = """if True:
        import os, pathlib, sys
        from lingraft.disk import new_folder
        with new_folder(pathlib.Path(sys.argv[1])) as folder:
            (folder / "half").write_text("half")
            os._exit(7)
    """
    path = tmp_path / "made"
    assert run_python(code, path).wait() == 7
    assert not path.exists()
    with new_folder(path) as folder:
        (folder / "new").write_text("new")
    assert contents(tmp_path) == {"made/new": "new"}


def fail(folder):
    (folder / "artefact").write_text("half")
    raise ValueError


def make(calls, text="made"):
    def write(folder):
        calls.append(text)
        (folder / "artefact").write_text(text)

    return write


def test_stage_skips_a_finished_artefact(tmp_path):
    calls = []
    for _ in range(2):
        path = cached(tmp_path / "stage", {"seed": 1, "files": ["a"]}, make(calls))
    assert calls == ["made"]
    assert (path / "artefact").read_text() == "made"


def test_stage_makes_an_artefact_again_when_its_inputs_changed(tmp_path):
    calls = []
    cached(tmp_path / "stage", {"seed": 1}, make(calls, "first"))
    path = cached(tmp_path / "stage", {"seed": 2}, make(calls, "second"))
    assert calls == ["first", "second"]
    assert (path / "artefact").read_text() == "second"


def test_stage_makes_an_artefact_again_that_was_not_finished(tmp_path):
    calls = []
    with suppress(ValueError):
        cached(tmp_path / "stage", {}, fail)
    assert not is_cached(tmp_path / "stage", {})
    cached(tmp_path / "stage", {}, make(calls))
    assert calls == ["made"]


def test_stage_keeps_the_old_artefact_when_the_new_one_fails(tmp_path):
    cached(tmp_path / "stage", {"seed": 1}, make([]))
    with suppress(ValueError):
        cached(tmp_path / "stage", {"seed": 2}, fail)
    assert is_cached(tmp_path / "stage", {"seed": 1})


def test_a_finished_artefact_says_what_it_was_made_from(tmp_path):
    inputs = {"seed": 1, "files": {"a.txt": "0123"}}
    path = cached(tmp_path / "stage", inputs, make([]))
    files = {"artefact": file_fingerprint(path / "artefact")}
    assert read_json(path / "fingerprint.json") == {
        "fingerprint": fingerprint(inputs),
        "inputs": inputs,
        "files": files,
    }


def test_an_artefact_of_other_inputs_or_of_other_bytes_has_another_fingerprint(tmp_path):
    inputs = {"seed": 1}
    made = [
        cached(tmp_path / "first", inputs, make([])),
        cached(tmp_path / "same", inputs, make([])),
        cached(tmp_path / "other-inputs", {"seed": 2}, make([])),
        cached(tmp_path / "other-bytes", inputs, make([], "as another machine makes it")),
    ]
    marks = [artefact_fingerprint(path) for path in made]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3


SIZES = {"small.json": 40, "deep/large.safetensors": OVER_SAMPLING_LIMIT}


def make_files(folder):
    for name, size in SIZES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x" * size)


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def lengthen(file):
    with file.open("ab") as opened:
        opened.write(b"more")


def zero(file):
    file.write_bytes(bytes(file.stat().st_size))


def zero_the_middle(file):
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(size // 4)
        opened.write(bytes(size // 2))


def make_a_folder_of_it(file):
    file.unlink()
    file.mkdir()


DAMAGES = {
    "cut": cut,
    "emptied": lambda file: os.truncate(file, 0),
    "longer": lengthen,
    "zeroed": zero,
    "zeroed in the middle": zero_the_middle,
    "removed": os.unlink,
    "a folder": make_a_folder_of_it,
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_an_artefact_with_a_damaged_file_is_made_again_and_the_file_is_named(tmp_path, caplog, name, damage):
    path = cached(tmp_path / "stage", {"seed": 1}, make_files)
    DAMAGES[damage](path / name)
    assert cached(tmp_path / "stage", {"seed": 1}, make_files) == path
    assert [record.getMessage() for record in caplog.records] == [
        f"stage: made again, not as it was written: {name}",
    ]
    assert {name: (path / name).read_bytes() for name in SIZES} == {name: b"x" * size for name, size in SIZES.items()}


BAD_JSON = {
    "empty": b"",
    "zeroed": bytes(200),
    "no JSON": b"fingerprint",
    "cut": b'{"fingerprint": "0123", "inp',
    "no UTF-8": b"\xff\xfe{}",
    "too deep": b"[" * 100_000,
    "no object": b"[1, 2]",
    "null": b"null",
    "of an earlier version": b'{"fingerprint": "0123", "inputs": {}}',
    "wrong forms": b'{"fingerprint": 5, "inputs": [], "files": "x"}',
}


@pytest.mark.parametrize("damage", [*BAD_JSON, "removed", "a folder"])
def test_an_artefact_with_a_damaged_record_is_made_again(tmp_path, caplog, damage):
    calls = []
    path = cached(tmp_path / "stage", {"seed": 1}, make(calls))
    record = path / "fingerprint.json"
    record.unlink()
    if damage == "a folder":
        record.mkdir()
    elif damage != "removed":
        record.write_bytes(BAD_JSON[damage])
    assert recorded_inputs(path) == {}
    cached(path, {"seed": 1}, make(calls))
    assert len(calls) == 2
    assert "stage: made again, fingerprint.json is missing or damaged" in caplog.text
    assert is_cached(path, {"seed": 1})


def test_a_file_that_came_to_an_artefact_does_no_harm(tmp_path):
    calls = []
    path = cached(tmp_path / "stage", {}, make(calls))
    (path / ".DS_Store").write_text("")
    cached(path, {}, make(calls))
    assert len(calls) == 1


def test_write_json_reads_back_equal(tmp_path):
    value = {"ọ̀rọ̀": [1, 0.1, None, True, "\u2028"], "empty": {}}
    write_json(tmp_path / "deep" / "file.json", value)
    assert read_json(tmp_path / "deep" / "file.json") == value


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_write_json_refuses_a_number_that_is_not_finite_and_keeps_the_old_file(tmp_path, number):
    write_json(tmp_path / "file.json", {"loss": 1.5})
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"loss": number})
    assert contents(tmp_path) == before


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one_alone(tmp_path):
    write_text(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file", "x" * 10**6 + "\ud800")
    assert contents(tmp_path) == {"file": "old"}


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path`."""
    code = """if True:
        import pathlib, sys, time
        from lingraft.disk import locked
        with locked(pathlib.Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
    """
    with run_python(code, tmp_path) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.usefixtures("holder")
def test_a_folder_that_is_held_is_refused(tmp_path):
    with pytest.raises(OutputError, match="another run is at work in this folder"), locked(tmp_path):
        pass


def test_a_lock_goes_with_its_process_however_it_ends(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        pass


def test_a_lock_is_released_at_the_end_of_its_block(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "out"):
            pass


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    keys = [str(i) for i in range(20)]
    shuffled = random.Random(0).sample(keys, len(keys))
    assert fingerprint({key: [key] for key in keys}) == fingerprint({key: [key] for key in shuffled})


def test_different_values_have_different_fingerprints():
    values = [None, 0, 1, "1", True, "", [], {}, [1], ["1"], {"a": 1}, {"b": 1}, {"a": [1]}, [1, 2], [2, 1], 0.1]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_a_fingerprint_is_the_same_on_every_machine():
    assert fingerprint({"é": [1, 0.5]}) == "b923a7663c4586b5"


def test_a_files_fingerprint_does_not_depend_on_its_name(tmp_path):
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    assert file_fingerprint(tmp_path / "a") == file_fingerprint(tmp_path / "b")


@pytest.mark.parametrize("size", [10**6, OVER_SAMPLING_LIMIT], ids=["small", "large"])
@pytest.mark.parametrize("place", ["first", "last", "longer", "shorter"])
def test_a_files_fingerprint_changes_with_its_content(tmp_path, size, place):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(size)
    before = file_fingerprint(path)
    with path.open("r+b") as file:
        if place in ("longer", "shorter"):
            file.truncate(size + (1 if place == "longer" else -1))
        else:
            file.seek(0 if place == "first" else size - 1)
            file.write(b"x")
    assert file_fingerprint(path) != before


def test_a_small_files_fingerprint_sees_every_byte(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(2**20))
    before = file_fingerprint(path)
    for place in random.Random(0).sample(range(2**20), 20):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        assert file_fingerprint(path) != before
        before = file_fingerprint(path)


def test_a_large_files_fingerprint_samples_all_over_it(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(OVER_SAMPLING_LIMIT)
    before = file_fingerprint(path)
    window = OVER_SAMPLING_LIMIT // 63
    for start in range(0, OVER_SAMPLING_LIMIT - window, window):
        with path.open("r+b") as file:
            file.seek(start)
            file.write(b"x" * window)
        assert file_fingerprint(path) != before
        before = file_fingerprint(path)


def test_what_lies_elsewhere_is_copied_where_it_is_of_the_same_inputs_and_whole(tmp_path):
    def make(text):
        return lambda folder: (folder / "file").write_text(text)

    other = cached(tmp_path / "other", {"a": 1}, make("made once"))
    for name, inputs, expected in (("same", {"a": 1}, "made once"), ("changed", {"a": 2}, "made again")):
        made = cached(tmp_path / name, inputs, make("made again"), [tmp_path / "none", other])
        assert (made / "file").read_text() == expected
        assert cached(made, inputs, lambda _: pytest.fail("made again")) == made
    (other / "file").write_text("made 0nce")
    assert (cached(tmp_path / "damaged", {"a": 1}, make("made again"), [other]) / "file").read_text() == "made again"
    assert artefact_fingerprint(tmp_path / "damaged") != artefact_fingerprint(tmp_path / "same")
