"""Where commands write: no byte of the user's is lost, whatever path is given, and nothing is left after exit 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import lingraft
from lingraft import cli
from lingraft.disk import mark
from lingraft.errors import OutputError
from tree import snapshot

pytestmark = pytest.mark.integration

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run_cli(monkeypatch, capsys) -> Run:
    """Run a command in this process; gives its exit code and standard error."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lingraft", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr().err

    return call


RESULTS = {
    "schema": 1,
    "base": None,
    "model": "m",
    "measured": {"max_length": 32, "bos": True, "dtype": "float32", "device": "cpu"},
    "languages": {},
    "tasks": {},
}
FERTILITY = {"schema": 1, "models": {}}


@pytest.fixture
def commands(recipe, base, texts, tmp_path) -> dict[str, list[object]]:
    """Every command that writes, but for its --out; the paths in them are what it reads."""
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copytree(base, tmp_path / "other")
    (tmp_path / "q.jsonl").write_text('{"context": "casa", "choices": [" agua", " xx"], "answer": 0}')
    lingraft.tokenizer.fertility([base], {"eng_Latn": str(texts["eng_Latn"])}, out=tmp_path / "fertility.json")
    english = f"eng_Latn={texts['eng_Latn']}"
    measured = ["--text", english, "--task", f"cloze:spa_Latn={tmp_path / 'q.jsonl'}", "--against", tmp_path / "other"]
    return {
        "run": ["run", tmp_path / "recipe.yaml"],
        "demo": ["demo"],
        "evaluate": ["evaluate", base, *measured],
        "report": ["report", tmp_path / "fertility.json"],
        "init": ["init", "--base", base, "--learn", "swh_Latn"],
        "fertility": ["tokenizer", "fertility", base, "--text", english],
        "extend": ["tokenizer", "extend", base, "--text", texts["swh_Latn"], "--tokens", 5],
        "merge": ["merge", "vectors", f"{tmp_path / 'other'}:0.5", "--base", base],
    }


FOLDERS = ("run", "demo", "extend", "merge")


def precious(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("three years")
    for name in ("work", "testbed", "model"):
        (folder / name).mkdir()
        (folder / name / "notes.txt").write_text("mine")
    return folder


def test_a_path_through_a_folder_that_is_not_there_empties_nothing(run_cli, commands, tmp_path) -> None:
    precious(tmp_path / "precious")
    before = snapshot(tmp_path)
    for name in FOLDERS:
        code, error = run_cli(*commands[name], "--out", tmp_path / "missing" / ".." / "precious")
        assert (name, code) == (name, 2)
        assert "precious is not empty" in error
        assert snapshot(tmp_path) == before


def test_a_target_that_cannot_be_ends_with_2_and_touches_nothing(run_cli, commands, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "pool")
    (tmp_path / "pool").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    targets = {
        "lead in a circle": tmp_path / "loop",
        "in a circle": tmp_path / "loop" / "out",
        "names have at most 245 bytes": tmp_path / ("x" * 250),
        "File name too long": tmp_path / ("x" * 300) / "out",
        "not UTF-8": tmp_path / os.fsdecode(b"\xff\xfe") / "out",
        "is a file": tmp_path / "q.jsonl" / "out",
        "this is an option, not a path": "--quiet",
    }
    before = snapshot(tmp_path)
    for name, arguments in commands.items():
        for message, target in targets.items():
            code, error = run_cli(*arguments, "--out", target)
            assert (name, message, code) == (name, message, 2)
            assert message in error
            assert "Traceback" not in error
        code, error = run_cli(*arguments, "--out", tmp_path / "pipe")
        assert (name, code) == (name, 2)
    assert snapshot(tmp_path) == before


def test_a_name_with_a_nul_is_refused_by_every_function(base, texts, tmp_path) -> None:
    out = f"{tmp_path}/a\0b"
    with pytest.raises(OutputError, match="cannot be the name of a file"):
        lingraft.merge.vectors(base, {base: 1.0}, out)
    with pytest.raises(OutputError, match="cannot be the name of a file"):
        lingraft.tokenizer.fertility([base], {"eng_Latn": str(texts["eng_Latn"])}, out=out)


def test_a_current_folder_that_was_deleted_ends_with_2(run_cli, commands, tmp_path, monkeypatch) -> None:
    before = snapshot(tmp_path)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for name, arguments in commands.items():
        code, error = run_cli(*arguments, "--out", "out")
        assert (name, code) == (name, 2)
        assert "the current folder was deleted" in error
    assert snapshot(tmp_path) == before


def test_a_file_of_another_kind_is_not_written_over(run_cli, commands, tmp_path) -> None:
    for name in ("thesis.tex", "data.json", "list.json", "page.html"):
        (tmp_path / name).write_text({"data.json": '{"a": 1}', "list.json": "[1]"}.get(name, "<html>mine</html>"))
    before = snapshot(tmp_path)
    for name in commands.keys() - set(FOLDERS):
        for target in ("thesis.tex", "data.json", "list.json", "page.html"):
            code, error = run_cli(*commands[name], "--out", tmp_path / target)
            assert (name, target, code) == (name, target, 2)
            assert "exists" in error
    assert snapshot(tmp_path) == before


def test_a_file_that_an_earlier_command_wrote_is_replaced(run_cli, commands, tmp_path) -> None:
    for name, target in {"report": "page.html", "fertility": "f.json"}.items():
        for _ in range(2):
            assert run_cli(*commands[name], "--out", tmp_path / target)[0] == 0
    (tmp_path / "empty.json").touch()
    assert run_cli(*commands["fertility"], "--out", tmp_path / "empty.json")[0] == 0


def test_an_output_that_is_read_is_refused_before_any_work(run_cli, commands, recipe, base, texts, tmp_path) -> None:
    english = texts["eng_Latn"]
    (tmp_path / "link").symlink_to(base)
    (tmp_path / "hard.jsonl").hardlink_to(english)
    (tmp_path / "soft.jsonl").symlink_to(english)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text(json.dumps(RESULTS))
    commands["report"] = ["report", tmp_path / "run", tmp_path / "fertility.json"]
    cases = {
        "evaluate": [english, tmp_path / "hard.jsonl", tmp_path / "soft.jsonl", tmp_path / "q.jsonl"],
        "report": [tmp_path / "run" / "results.json", tmp_path / "fertility.json", tmp_path / "run/../fertility.json"],
        "fertility": [english, tmp_path / "hard.jsonl", base / "new.json"],
        "extend": [base, tmp_path / "link", base / "out", tmp_path / "link" / "out", tmp_path],
        "merge": [base, tmp_path / "other", base / "out", tmp_path / "link", tmp_path / "x" / ".." / "other", tmp_path],
        "run": [base, base / "deep" / "out", tmp_path / "link", tmp_path, english],
    }
    cases["evaluate"] += [base / "new.json", tmp_path / "link" / "new.json", tmp_path / "other" / "config.json"]
    before = snapshot(tmp_path)
    for name, targets in cases.items():
        for target in targets:
            code, error = run_cli(*commands[name], "--out", target)
            assert (name, target, code) == (name, target, 2)
            assert "which is read" in error or "is a file" in error
            assert snapshot(tmp_path) == before, (name, target)


def test_a_run_does_not_write_where_its_corpus_looks_for_files(run_cli, commands, texts, tmp_path) -> None:
    pattern = "corpus.0.files=" + str(tmp_path / "data" / "**" / "*.jsonl")
    (tmp_path / "data").mkdir()
    shutil.copy(texts["swh_Latn"], tmp_path / "data")
    before = snapshot(tmp_path)
    code, error = run_cli(*commands["run"], pattern, "--out", tmp_path / "data" / "out")
    assert code == 2
    assert "would read what is written there" in error
    assert snapshot(tmp_path) == before


def test_folders_that_were_made_above_are_removed_after_exit_2(run_cli, commands, texts, tmp_path) -> None:
    """Each command fails late, on its text, its tokens, or its weights."""
    late = {
        "run": ["corpus.0.text_field=body"],
        "evaluate": ["--text-field", "body"],
        "fertility": ["--text-field", "body"],
        "extend": ["--tokens", 100_000],
        "merge": ["--dtype", "float8"],
    }
    with (tmp_path / "one.jsonl").open("w") as file:
        file.write('{"text": "one"}')
    before = snapshot(tmp_path)
    for name, more in late.items():
        code, _ = run_cli(*commands[name], *more, "--out", tmp_path / "deep" / "new" / "out")
        assert (name, code) == (name, 2)
        assert snapshot(tmp_path) == before, name


def test_names_that_are_not_utf_8_are_shown_and_crash_nothing(base, texts, tmp_path) -> None:
    bad = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    shutil.copy(os.fsencode(texts["eng_Latn"]), bad)
    program = [sys.executable, "-m", "lingraft", "tokenizer", "fertility", base, "--text"]
    for files in (b"eng_Latn=" + bad, f"eng_Latn={tmp_path}/caf*.jsonl"):
        ended = subprocess.run([*program, files, "--out", tmp_path / "f.json"], capture_output=True, check=False)
        assert ended.returncode == 2, ended.stderr
        assert b"not UTF-8" in ended.stderr
        assert b"Traceback" not in ended.stderr
    assert not (tmp_path / "f.json").exists()


_FINISHED: list[tuple[Path, dict]] = []
"""One run of this file, and its recipe; each test has a copy of the folder."""


@pytest.fixture
def finished_run(request, tmp_path) -> Path:
    if not _FINISHED:
        recipe = request.getfixturevalue("recipe")
        recipe["training"]["max_steps"] = 1
        lingraft.run(recipe, tmp_path / "first")
        _FINISHED.append((tmp_path / "first", recipe))
    return shutil.copytree(_FINISHED[0][0], tmp_path / "out", symlinks=True)


@pytest.fixture
def its_recipe(finished_run) -> dict:
    return _FINISHED[0][1]


def test_a_published_model_is_on_the_disk_once_and_its_stage_still_has_it(finished_run, its_recipe) -> None:
    model = finished_run / "model" / "model.safetensors"
    stage = finished_run / "work" / "exported" / "model" / "model.safetensors"
    assert str((stage).readlink()) == "../../../model/model.safetensors"
    assert not model.is_symlink()
    assert model.stat().st_nlink == 1
    adapted = finished_run / "work" / "adapted" / "adapter" / "adapter_model.safetensors"
    assert not adapted.samefile(finished_run / "adapter" / "adapter_model.safetensors")
    before = snapshot(finished_run)
    lingraft.run(its_recipe, finished_run)
    after = snapshot(finished_run)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= OF_THE_MOMENT


def test_what_a_process_left_that_was_killed_while_it_made_links_is_not_published(finished_run, its_recipe) -> None:
    before = snapshot(finished_run)
    mark(finished_run / "work" / "exported" / "model" / ".model.safetensors.lingraft")
    lingraft.run(its_recipe, finished_run)
    assert snapshot(finished_run).keys() == before.keys()


def other_weights(file: Path) -> None:
    held = bytearray(file.read_bytes())
    held[-1] ^= 1
    file.write_bytes(held)


OF_THE_MOMENT = {"lingraft.json", "model/lingraft.json", "report.html", ".published.json"}
"""What tells the free memory of the machine."""

EDITS: dict[str, Callable[[Path], object]] = {
    "a config": lambda out: (out / "model" / "config.json").write_text('{"model_type": "llama", "mine": 1}'),
    "a card": lambda out: (out / "model" / "README.md").write_text("my card"),
    "the results": lambda out: (out / "results.json").write_text("{}"),
    "a file in the adapter": lambda out: (out / "adapter" / "notes.txt").write_text("mine"),
    "weights": lambda out: other_weights(out / "model" / "model.safetensors"),
}


def test_a_published_file_that_was_changed_is_neither_lost_nor_taken_for_an_artefact(
    finished_run, its_recipe, run_cli, tmp_path
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(its_recipe))
    for edit in EDITS.values():
        shutil.copytree(finished_run, tmp_path / "kept", symlinks=True)
        edit(finished_run)
        before = snapshot(tmp_path)
        for more in ([], ["--dry-run"]):
            code, error = run_cli("run", tmp_path / "recipe.yaml", "--out", finished_run, *more)
            assert code == 2
            assert "would be lost; move it away" in error
            assert snapshot(tmp_path) == before
        shutil.rmtree(finished_run)
        (tmp_path / "kept").rename(finished_run)


def test_what_was_published_and_is_gone_is_made_again(finished_run, its_recipe) -> None:
    before = snapshot(finished_run)
    for spoil in (
        lambda: shutil.rmtree(finished_run / "model"),
        lambda: shutil.rmtree(finished_run / "adapter"),
        lambda: (finished_run / "model" / "config.json").unlink(),
        lambda: (finished_run / "report.html").unlink(),
    ):
        spoil()
        lingraft.run(its_recipe, finished_run)
        after = snapshot(finished_run)
        assert after.keys() == before.keys()
        assert {name for name in after if after[name] != before[name]} <= OF_THE_MOMENT


def test_changed_text_publishes_the_new_model_in_place_of_the_old_one(finished_run, its_recipe) -> None:
    before = snapshot(finished_run / "model")
    with Path(its_recipe["corpus"][0]["files"]).open("a") as file:
        file.write('{"text": "maji na moto na jua na mwezi"}\n' * 3)
    lingraft.run(its_recipe, finished_run)
    assert snapshot(finished_run / "model") != before
    lingraft.run(its_recipe, finished_run)


def test_files_of_an_earlier_merge_that_were_changed_are_not_lost(run_cli, commands, tmp_path) -> None:
    assert run_cli(*commands["merge"], "--out", tmp_path / "out")[0] == 0
    (tmp_path / "out" / "README.md").write_text("my card")
    before = snapshot(tmp_path)
    code, error = run_cli(*commands["merge"], "--dtype", "float32", "--out", tmp_path / "out")
    assert code == 2
    assert "README.md changed since it was written" in error
    assert snapshot(tmp_path) == before
