"""The demo, with training cut to a few steps; `make demo` is the whole of it."""

from __future__ import annotations

import json
from importlib import import_module

import pytest
import yaml

import lingraft
from lingraft.errors import OutputError, UserError
from lingraft.evaluation import samples
from lingraft.evaluation.measure import measure
from lingraft.methods import METHODS
from lingraft.recipe import load_recipe
from lingraft.synthetic import NEW, OLD, TASKS, base, files, trained_base, write_testbed
from lingraft.synthetic.demo import RUNS, STORY

pytestmark = pytest.mark.integration

demo_module = import_module("lingraft.synthetic.demo")


@pytest.fixture
def small(monkeypatch, tmp_path) -> None:
    """A demo of seconds, whose base is cached in a folder of its own."""
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "TRAINING_DOCUMENTS", 200)
    monkeypatch.setattr(files, "NEW_DOCUMENTS", 200)
    monkeypatch.setattr(files, "MEASURED_DOCUMENTS", 2)
    monkeypatch.setattr(files, "QUESTIONS", 2)
    monkeypatch.setattr(base, "SHAPE", {**base.SHAPE, "vocab_size": 300, "num_hidden_layers": 5})
    monkeypatch.setattr(base, "TRAINING", base.TRAINING._replace(steps=6))
    monkeypatch.setattr(demo_module, "TOKENS", 3000)
    monkeypatch.setattr(samples, "MAX_NEW_TOKENS", 4)


SOME = {name: RUNS[name] for name in ("neutral-residues", "lora-self-generated")}


@pytest.mark.usefixtures("small")
def test_every_run_is_of_a_recipe_and_drawn_in_one_report_and_the_same_seed_gives_the_same(
    tmp_path, monkeypatch
) -> None:
    out, measured = tmp_path / "demo", []

    def watched(folder, *arguments):
        measured.append(folder.name)
        return measure(folder, *arguments)

    monkeypatch.setattr("lingraft.pipeline.measure.measure", watched)
    results = lingraft.demo(out, runs=SOME)
    assert len([name for name in measured if name.startswith("testbed-")]) == 1, (
        "one measurement of the base serves all"
    )
    assert list(results) == list(SOME)
    for name, settings in SOME.items():
        assert json.loads((out / name / "results.json").read_text()) == results[name]
        recipe = yaml.safe_load((out / "recipes" / f"{name}.yaml").read_text())
        assert recipe["method"] == settings["method"]
        assert {code: of["role"] for code, of in results[name]["languages"].items()} == {
            NEW: "learn",
            **dict.fromkeys(OLD, "retain"),
        }
        assert list(results[name]["tasks"]) == list(TASKS)
        assert {sample["language"] for sample in results[name]["samples"]} == {NEW, *OLD}
    page = (out / "report.html").read_text()
    assert all(f"</span>{name}</h2>" in page for name in SOME)

    name, settings = next(iter(SOME.items()))
    again = lingraft.demo(tmp_path / "other", runs={name: settings})
    assert again[name] == results[name]
    monkeypatch.setattr("lingraft.pipeline.train.train", lambda *arguments: pytest.fail("trained again"))
    assert lingraft.demo(out, runs=SOME) == results


@pytest.mark.usefixtures("small")
def test_the_demo_shows_every_method_by_a_good_recipe(tmp_path) -> None:
    assert {settings["method"]["name"] for settings in RUNS.values()} == set(METHODS)
    assert set(STORY) <= set(RUNS)
    (tmp_path / "testbed").mkdir()
    write_testbed(tmp_path / "testbed", 0)
    folder = trained_base(tmp_path / "testbed", tmp_path / "cache", 0)
    for settings in RUNS.values():
        recipe = demo_module.recipe_of(settings, folder, tmp_path / "testbed", 0)
        assert load_recipe(recipe).only.method.name == settings["method"]["name"]


@pytest.mark.usefixtures("small")
def test_a_folder_of_another_world_is_refused_and_left_alone(tmp_path, monkeypatch) -> None:
    out = tmp_path / "demo"
    monkeypatch.setattr(demo_module, "write_report", lambda *arguments: None)
    lingraft.demo(out, seed=0, runs={})
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match=r"holds another demo .*seed: 0 there, 1 here.*; give a new folder"):
        lingraft.demo(out, seed=1)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_cannot_be_one_is_refused_before_any_work(tmp_path, seed) -> None:
    with pytest.raises(UserError, match="allowed are 0 to 4294967295"):
        lingraft.demo(tmp_path / "demo", seed)
    assert not (tmp_path / "demo").exists()


@pytest.mark.usefixtures("small")
def test_a_demo_killed_while_it_wrote_its_testbed_can_be_started_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(demo_module, "write_report", lambda *arguments: None)
    (tmp_path / "demo" / ".testbed.tmp").mkdir(parents=True)
    (tmp_path / "demo" / ".lock").touch()
    assert lingraft.demo(tmp_path / "demo", runs={}) == {}


def test_several_processes_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="the demo is for one process"):
        lingraft.demo(tmp_path / "demo")


@pytest.mark.usefixtures("small")
def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=r"file/cache cannot be written: .*/file is a file"):
        lingraft.demo(tmp_path / "demo")


def test_a_folder_that_is_no_demo_is_refused_and_left_alone(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="is not empty and holds no demo"):
        lingraft.demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
