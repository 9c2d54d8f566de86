"""What is called finished is finished: a run with damaged artefacts, or inputs that change, publishes nothing wrong."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
from pathlib import Path

import pytest
import yaml

import lingraft
from lingraft.corpus.sources import files as source_files
from lingraft.errors import OutputError, UserError
from lingraft.pipeline.inputs import RecipeFiles
from lingraft.pipeline.run_directory import check_output
from lingraft.recipe import load_recipe

pytestmark = pytest.mark.integration

module = importlib.import_module("lingraft.pipeline.run")  # the function of its name hides it

OF_THE_MOMENT = {"training.json", "report.html"}
"""Hold how long training took; all else that is published depends on the recipe and what it reads alone."""


def published(out: Path) -> dict[str, bytes]:
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in files.items()
        if not name.startswith(("work/", ".")) and name not in OF_THE_MOMENT
    }


@pytest.fixture(scope="module")
def whole_recipe(shared_recipe):
    """All kinds of artefacts that a run of one training has."""
    questions = Path(shared_recipe["base"]).parent / "questions.jsonl"
    questions.write_text('{"context": "casa", "choices": [" agua", " xx"], "answer": 0}\n')
    shared_recipe["evaluation"]["tasks"] = {"likely": {"spa_Latn": str(questions)}}
    shared_recipe["replay"] = {"self_generated": 0.2}
    shared_recipe["early_stopping"] = {"patience": 2}
    shared_recipe["merge"] = [{"max_forgetting": 0.05}]
    shared_recipe["training"] |= {"max_steps": 6, "eval_steps": 2, "save_steps": 2}
    return shared_recipe


@pytest.fixture(scope="module")
def finished(whole_recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    lingraft.run(whole_recipe, out)
    return out


@pytest.fixture
def out(finished, tmp_path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_two_runs_differ_in_nothing_but_the_time_that_training_took(finished, whole_recipe, tmp_path) -> None:
    lingraft.run(whole_recipe, tmp_path / "again")
    assert published(tmp_path / "again") == published(finished)
    one, other = (json.loads((of / "training.json").read_text()) for of in (finished, tmp_path / "again"))
    for log in (one, other):
        assert log.pop("seconds") > 0
        for entry in log["log"]:
            for name in [name for name in entry if name.endswith(("_runtime", "_per_second"))]:
                del entry[name]
    assert one == other


DAMAGES = {
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "removed": os.unlink,
}


def artefacts(out: Path) -> list[Path]:
    return sorted(record.parent for record in (out / "work").rglob("fingerprint.json"))


def files_of(artefact: Path) -> list[Path]:
    """That are not empty; of a file that is, nothing can be damaged."""
    files = sorted(path for path in artefact.rglob("*") if path.is_file() and path.name != "fingerprint.json")
    return [path for path in files if path.stat().st_size]


@pytest.mark.parametrize("which", ["files", "records"])
def test_damage_to_every_artefact_makes_each_again_with_the_same_end(
    finished, whole_recipe, out, caplog, which
) -> None:
    """A file of each that is cut, zeroed or removed, or its record: a run that was stopped by a failing disk."""
    draw = random.Random(which)
    for artefact in artefacts(out):
        file = draw.choice(files_of(artefact)) if which == "files" else artefact / "fingerprint.json"
        Path(shutil.copyfile(file, out / "copy")).replace(file)  # what is published may be the same file
        DAMAGES[draw.choice([*DAMAGES])](file)
    lingraft.run(whole_recipe, out)
    assert published(out) == published(finished)
    again = {record.getMessage().split(":")[0] for record in caplog.records if "made again" in record.getMessage()}
    assert again == {artefact.name for artefact in artefacts(finished)}


@pytest.mark.parametrize("damage", [*DAMAGES, "empty", "no YAML", "no UTF-8", "a list", "keys that are no names"])
def test_a_damaged_recipe_of_a_run_is_written_again(finished, whole_recipe, tmp_path, caplog, damage) -> None:
    out, bad = tmp_path / "out", {"empty": b"", "no YAML": b"{[", "no UTF-8": b"\xff", "a list": b"[1]"}
    shutil.copytree(finished / "work" / "split", out / "work" / "split")
    file = Path(shutil.copyfile(finished / "recipe.resolved.yaml", out / "recipe.resolved.yaml"))
    DAMAGES[damage](file) if damage in DAMAGES else file.write_bytes(bad.get(damage, b"1: 2\n"))
    check_output(out, load_recipe(whole_recipe))
    assert "recipe.resolved.yaml: missing or damaged, written again" in caplog.text


def test_a_run_with_a_damaged_recipe_goes_on_with_its_artefacts(finished, whole_recipe, out, caplog) -> None:
    os.truncate(out / "recipe.resolved.yaml", 100)
    lingraft.run(whole_recipe, out)
    assert published(out) == published(finished)
    assert "made again" not in caplog.text


def test_a_damaged_recipe_is_no_licence_to_write_over_what_is_no_run(whole_recipe, tmp_path) -> None:
    (tmp_path / "recipe.resolved.yaml").write_text("{[")
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="is not empty and not a run's folder"):
        lingraft.run(whole_recipe, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_recipe_with_another_base_is_another_and_not_damaged(whole_recipe, out) -> None:
    values = yaml.safe_load((out / "recipe.resolved.yaml").read_text())
    (out / "recipe.resolved.yaml").write_text(yaml.safe_dump({**values, "base": "another"}))
    with pytest.raises(OutputError, match="belongs to another run"):
        lingraft.run(whole_recipe, out)


@pytest.fixture
def short(recipe, tmp_path):
    (tmp_path / "questions.jsonl").write_text('{"context": "casa", "choices": [" agua", " xx"], "answer": 0}\n')
    recipe["evaluation"]["tasks"] = {"likely": {"spa_Latn": str(tmp_path / "questions.jsonl")}}
    recipe["training"] |= {"max_steps": 1, "eval_strategy": "no"}
    return recipe


CHANGED = {
    "base": "base/model.safetensors",
    "base's tokenizer": "base/tokenizer.json",
    "corpus": "swh_Latn.jsonl",
    "evaluation.text": "eng_Latn.jsonl",
    "evaluation.tasks": "questions.jsonl",
}


@pytest.mark.parametrize("what", CHANGED)
@pytest.mark.parametrize("how", ["other bytes", "removed"])
def test_an_input_that_changes_is_named_and_ends_with_exit_code_2(short, tmp_path, what, how) -> None:
    inputs, file = RecipeFiles(load_recipe(short), tmp_path / "work"), tmp_path / CHANGED[what]
    file.touch()
    inputs.raise_if_changed()  # with another time, but the same
    file.write_bytes(file.read_bytes()[:-1] + b"!") if how == "other bytes" else file.unlink()
    with pytest.raises(UserError, match="changed while they were being used, so nothing is published") as caught:
        inputs.raise_if_changed()
    assert caught.value.exit_code == 2
    assert f"  {what.partition(chr(39))[0]}: {file}\n" in str(caught.value)


def test_a_file_that_comes_to_a_pattern_is_a_change(short, tmp_path) -> None:
    short["corpus"][0]["files"] = str(tmp_path / "swh*.jsonl")
    inputs = RecipeFiles(load_recipe(short), tmp_path / "work")
    shutil.copyfile(tmp_path / "swh_Latn.jsonl", tmp_path / "swh_more.jsonl")
    with pytest.raises(UserError, match=r"corpus: .*swh_more\.jsonl"):
        inputs.raise_if_text_changed()


def test_a_base_that_changes_while_it_trains_publishes_nothing_and_nothing_of_it_is_kept(
    short, tmp_path, monkeypatch
) -> None:
    file, out = tmp_path / "base" / "model.safetensors", tmp_path / "out"
    right, adapt = file.read_bytes(), module.adapt

    def adapt_and_change(*arguments):
        made = adapt(*arguments)
        file.write_bytes(right[:-1] + b"!")
        return made

    with monkeypatch.context() as patched:
        patched.setattr(module, "adapt", adapt_and_change)
        with pytest.raises(UserError, match="nothing is published"):
            lingraft.run(short, out)
    assert not out.exists() or not {"model", "adapter", "results.json"} & {path.name for path in out.iterdir()}
    file.write_bytes(right)
    lingraft.run(short, out)
    lingraft.run(short, tmp_path / "straight")
    assert published(out) == published(tmp_path / "straight")


def test_what_was_made_of_text_that_changed_while_it_was_read_is_not_kept(short, tmp_path, monkeypatch) -> None:
    file, out = tmp_path / "swh_Latn.jsonl", tmp_path / "out"
    right, read = file.read_bytes(), source_files.placed_rows

    def change_and_read(*arguments):
        file.write_bytes(right.replace(b"maji", b"soda"))
        return read(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(source_files, "placed_rows", change_and_read)
        with pytest.raises(UserError, match=r"corpus: .*swh_Latn\.jsonl"):
            lingraft.run(short, out)
    assert not out.exists()
    file.write_bytes(right)
    lingraft.run(short, out)
    assert b"soda" not in (out / "work" / "split" / "held-out-swh_Latn.jsonl").read_bytes()
