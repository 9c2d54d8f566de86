"""A recipe of many runs: names, folders, what they share, and one report."""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import yaml

import lingraft
from command_line import command
from lingraft.errors import OutputError, RecipeError, UserError
from lingraft.evaluation.student_t import student_t
from lingraft.recipe.sweep import points_of, read_sweep
from lingraft.reporting.progress import monotonicity
from lingraft.reporting.sweep import SweepResults, _mean, signs_of

pytestmark = pytest.mark.integration


def names(**sweep) -> list[str]:
    return [point.name for point in points_of(read_sweep({"sweep": sweep}), "recipe")]


def test_a_grid_is_every_combination() -> None:
    assert names(grid={"method.rank": [4, 8], "seed": [0, 1]}) == [
        "rank-4_seed-0",
        "rank-4_seed-1",
        "rank-8_seed-0",
        "rank-8_seed-1",
    ]


def test_each_run_of_a_list_is_combined_with_the_grid() -> None:
    runs = [{"name": "ends", "method.first": 2}, {"method": {"name": "lora", "rank": 4}}]
    points = points_of(read_sweep({"sweep": {"runs": runs, "grid": {"seed": [0, 1]}}}), "recipe")
    assert [point.name for point in points] == [
        "ends_seed-0",
        "ends_seed-1",
        "method-lora-rank-4_seed-0",
        "method-lora-rank-4_seed-1",
    ]
    assert points[1].values == {"method.first": 2, "seed": 1}
    assert [point.group for point in points] == ["ends", "ends", "method-lora-rank-4", "method-lora-rank-4"]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({}, "there is neither 'runs' nor 'grid'"),
        ({"grid": {"seed": 3}}, "sweep.grid.seed: Input should be a valid list"),
        ({"grid": {"seed": []}}, "sweep.grid.seed: List should have at least 1 item"),
        ({"gird": {"seed": [1]}}, "sweep.gird: Extra inputs are not permitted"),
        ({"grid": {"seed": [1, 1]}}, "two runs are 'seed-1'; give runs that differ a 'name'"),
        ({"runs": [{"seed": 1}], "grid": {"seed": [0]}}, "sweep.grid.seed: stands in 'runs' too"),
        ({"grid": {"seed": list(range(1001))}}, "more than 1000 runs"),
        ({"runs": [{"name": "report.html", "seed": 1}]}, "'report.html' cannot be the name of a folder"),
        ({"grid": {"method": [{"name": "full"}], "method.rank": [1]}}, "'method.rank' lies below 'method'"),
        ({"grid": {"base": ["a" * 300]}}, "cannot be the name of a folder; give it a 'name'"),
        ({"grid": {"seed": [1]}, "max_parallel": 0}, "sweep.max_parallel: Input should be greater than or equal to 1"),
    ],
)
def test_a_sweep_of_another_form_is_refused(sweep, message) -> None:
    with pytest.raises(RecipeError, match=message):
        points_of(read_sweep({"sweep": sweep}), "recipe")


def test_groups_are_what_differs_in_the_seed_alone() -> None:
    runs = [{"name": "a", "method.rank": 8, "seed": 0}, {"name": "b", "method.rank": 8, "seed": 1}]
    runs += [{"name": "c", "vocabulary.rank": 8, "seed": 0}]
    assert [point.group for point in points_of(read_sweep({"sweep": {"runs": runs}}), "recipe")] == ["a", "a", "c"]
    unnamed = [{"method.rank": 8, "seed": 0}, {"vocabulary.rank": 8, "seed": 1}]
    groups = [point.group for point in points_of(read_sweep({"sweep": {"runs": unnamed}}), "recipe")]
    assert groups == ["rank-8", "rank-8_seed-1"]
    assert names(grid={"x": [-1, 1]}) == ["x--1", "x-1"]


@pytest.mark.parametrize("override", ["seed=5", "method.name=full", "method={name: full}", "method.rank=3"])
def test_what_the_runs_differ_in_cannot_be_overridden(sweep_file, tmp_path, override) -> None:
    with pytest.raises(RecipeError, match="would undo what the runs differ in"):
        lingraft.run(sweep_file, tmp_path / "out", [override])
    assert not (tmp_path / "out").exists()


@pytest.fixture
def sweep_file(recipe, tmp_path):
    recipe["training"]["max_steps"] = 2
    recipe["sweep"] = {"grid": {"method.rank": [1, 2], "seed": [0, 1]}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_every_run_has_a_folder_and_all_have_one_report(sweep_file, tmp_path, caplog) -> None:
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO, logger="lingraft"):
        results = lingraft.run(sweep_file, out)
    assert list(results) == ["rank-1_seed-0", "rank-1_seed-1", "rank-2_seed-0", "rank-2_seed-1"]
    single = lingraft.run(
        {**yaml.safe_load(sweep_file.read_text()), "sweep": None, "seed": 1}, tmp_path / "single", ["method.rank=2"]
    )
    assert single["languages"] == results["rank-2_seed-1"]["languages"]
    taken = [record.getMessage() for record in caplog.records if "taken from" in record.getMessage()]
    assert sum("before" in line for line in taken) == 2  # each seed holds out other documents, and has a base's score
    assert sum("corpus-0:" in line for line in taken) == 3
    rows = list(csv.DictReader((out / "runs.csv").open()))
    assert [row["run"] for row in rows] == list(results)
    assert [float(row["learning"]) for row in rows] == [of["learning"] for of in results.values()]
    assert json.loads((out / "runs.json").read_text())[0]["method.rank"] == 1
    page = (out / "report.html").read_text()
    assert 'href="rank-2_seed-1/report.html"' in page
    assert "2 settings" in page
    lingraft.report([out], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_runs_can_be_chosen_and_added(sweep_file, tmp_path) -> None:
    out = tmp_path / "out"
    assert list(lingraft.run(sweep_file, out, only="*seed-1,rank-1_seed-0")) == [
        "rank-1_seed-0",
        "rank-1_seed-1",
        "rank-2_seed-1",
    ]
    assert not (out / "rank-2_seed-0").exists()
    assert "1 not yet" in (out / "report.html").read_text()
    with pytest.raises(UserError, match="--only rank-3: no run is called 'rank-3'; they are rank-1_seed-0, "):
        lingraft.run(sweep_file, out, only="rank-3")
    values = yaml.safe_load(sweep_file.read_text())
    values["sweep"]["grid"]["method.rank"].append(3)
    sweep_file.write_text(yaml.safe_dump(values))
    lingraft.run(sweep_file, out, only="rank-3_seed-0")
    assert len(json.loads((out / "runs.json").read_text())) == 4  # the others are of the same recipe
    values["sweep"] = {"runs": [{"name": "rank-1_seed-0", "method.first": 1}]}
    sweep_file.write_text(yaml.safe_dump(values))
    with pytest.raises(OutputError, match="'rank-1_seed-0' is another run there"):
        lingraft.run(sweep_file, out)


def test_runs_of_an_earlier_state_of_the_recipe_are_not_drawn_with_new_ones(sweep_file, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    lingraft.run(sweep_file, out, only="*seed-0")
    values = yaml.safe_load(sweep_file.read_text())
    values["training"]["learning_rate"] = 1e-3
    sweep_file.write_text(yaml.safe_dump(values))
    lingraft.run(sweep_file, out, only="rank-1_seed-1")
    assert [row["run"] for row in csv.DictReader((out / "runs.csv").open())] == ["rank-1_seed-1"]
    assert "3 not yet" in (out / "report.html").read_text()
    values["training"]["learning_rate"] = 2e-3
    sweep_file.write_text(yaml.safe_dump(values))
    monkeypatch.setattr("lingraft.pipeline.sweep.run_recipe", _stop)
    with pytest.raises(KeyboardInterrupt):  # before any run of the new state is finished
        lingraft.run(sweep_file, out)
    assert '"runs": {}' not in (out / "sweep.json").read_text()
    with pytest.raises(UserError, match="no run of this sweep is finished"):
        lingraft.report([out], tmp_path / "page.html")


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_where_a_run_fails_the_others_go_on(sweep_file, tmp_path) -> None:
    values = yaml.safe_load(sweep_file.read_text())
    values["sweep"] = {"runs": [{"name": "bad", "corpus.0.text_field": "body"}, {"name": "good", "seed": 1}]}
    sweep_file.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="1 of 2 runs failed: bad; start again to go on with them"):
        lingraft.run(sweep_file, tmp_path / "out")
    assert (tmp_path / "out" / "good" / "results.json").exists()


def test_runs_that_train_the_same_train_once(sweep_file, tmp_path, caplog) -> None:
    values = yaml.safe_load(sweep_file.read_text())
    values["sweep"] = {"runs": [{"name": "whole"}, {"name": "half", "merge": [{"scale": 0.5}]}]}
    sweep_file.write_text(yaml.safe_dump(values))
    with caplog.at_level(logging.INFO, logger="lingraft"):
        results = lingraft.run(sweep_file, tmp_path / "out")
    assert sum("trains" in record.getMessage() and "weights" in record.getMessage() for record in caplog.records) == 1
    assert results["half"]["learning"] != results["whole"]["learning"]


def test_every_recipe_is_checked_before_the_first_runs(sweep_file, tmp_path) -> None:
    values = yaml.safe_load(sweep_file.read_text())
    values["sweep"] = {"grid": {"method.rank": [1, 0]}}
    sweep_file.write_text(yaml.safe_dump(values))
    with pytest.raises(RecipeError, match=r"run 'rank-0'.*\n.*method.rank"):
        lingraft.run(sweep_file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_of_one_run_has_nothing_to_choose(recipe, tmp_path) -> None:
    with pytest.raises(UserError, match="the recipe has no 'sweep', so it is one run"):
        lingraft.run(recipe, tmp_path / "out", only="a")


def test_runs_side_by_side_are_the_same(sweep_file, tmp_path) -> None:
    values = yaml.safe_load(sweep_file.read_text())
    values["sweep"] = {"grid": {"method.rank": [1, 2]}, "max_parallel": 2}
    sweep_file.write_text(yaml.safe_dump(values))
    out, _ = command("run", sweep_file, "--out", tmp_path / "side")
    assert out.count("learning") == 2
    values["sweep"]["max_parallel"] = 1
    sweep_file.write_text(yaml.safe_dump(values))
    lingraft.run(sweep_file, tmp_path / "single")
    assert (tmp_path / "side" / "runs.csv").read_text() == (tmp_path / "single" / "runs.csv").read_text()
    dry, _ = command("run", sweep_file, "--out", tmp_path / "x", "--dry-run")
    assert dry.split() == ["rank-1", "rank-2"]


def sweep_of(values) -> SweepResults:
    """Settings with learnings by seed."""
    runs = {
        f"{setting}{seed}": (setting, seed, learning)
        for setting, of in values.items()
        for seed, learning in enumerate(of)
    }
    return SweepResults(
        {name: {"group": setting, "values": {"seed": seed}} for name, (setting, seed, _) in runs.items()},
        {name: {"learning": learning, "languages": {}} for name, (_, _, learning) in runs.items()},
    )


def test_a_figure_tells_settings_apart_where_seeds_agree_on_them() -> None:
    """A seed in which all settings learn more is no noise."""
    (sign,) = signs_of(sweep_of({"a": (0.1, 0.2), "b": (0.2, 0.3), "c": (0.4, 0.5)}))
    assert (sign.figure, sign.order) == ("learning", 1)
    assert sign.between_settings == pytest.approx(np.std([15, 25, 45], ddof=1))
    assert sign.between_seeds == pytest.approx(0, abs=1e-9)
    assert sign.tells


def test_a_figure_tells_nothing_where_seeds_disagree() -> None:
    (sign,) = signs_of(sweep_of({"a": (0.1, 0.4), "b": (0.2, 0.3), "c": (0.4, 0.1)}))
    assert sign.order == -1
    rest = (40 / 3, 10 / 3, 50 / 3)  # of each setting, up in one seed and down in the other; two degrees of freedom
    assert sign.between_seeds == pytest.approx((sum(2 * one**2 for one in rest) / 2) ** 0.5)
    assert not sign.tells
    assert signs_of(sweep_of({"a": (0.1,), "b": (0.2,), "c": (0.4,)})) == []
    assert signs_of(sweep_of({"a": (0.1, 0.2), "b": (0.2, 0.1)})) == []


def test_a_figure_that_goes_up_and_down_while_models_train_is_told() -> None:
    """Learning follows the loss of learned languages downwards, forgetting that of retained ones upwards."""
    languages = {"dan_Latn": {"role": "learn"}, "eng_Latn": {"role": "retain"}}
    rising, unsteady = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 6.0, 2.0, 5.0, 3.0, 4.0]
    falling = rising[::-1]

    def log(danish, english, copying):
        lines = {"eval_dan_Latn_loss": danish, "eval_eng_Latn_loss": english, "copying_eng_Latn": copying}
        return [{"step": i, **{key: line[i] for key, line in lines.items()}} for i in range(6)]

    steady = monotonicity({"languages": languages}, log(falling, rising, unsteady))
    assert steady == {
        "learning": 1.0, "forgetting": 1.0, "Danish, bits per byte": -1.0, "English, bits per byte": 1.0,
        "in-context copying, forgetting": pytest.approx(-0.2571, abs=1e-4),
    }  # fmt: skip
    assert monotonicity({"languages": languages}, log(falling, rising, unsteady)[:5]) == {}
    sweep = sweep_of({"a": (0.1, 0.2), "b": (0.2, 0.3), "c": (0.4, 0.5)})
    runs = {name: {**results, "languages": languages} for name, results in sweep.finished.items()}
    for of in runs.values():
        of["languages"] = {code: {**entry, "bits_per_byte": {}} for code, entry in languages.items()}
    for danish, is_unsteady in ((falling, False), (unsteady, True)):
        (sign,) = signs_of(replace(sweep, finished=runs, logs=dict.fromkeys(runs, log(danish, rising, rising))))
        assert sign.tells
        assert sign.is_unsteady == is_unsteady


@pytest.mark.parametrize("above", [True, False])
def test_a_task_that_every_model_guesses_tells_nothing(above) -> None:
    def results(learning: float, is_above: bool) -> dict:
        entry = {"role": "learn", "above_chance": is_above}
        return {"languages": {}, "tasks": {"cloze": {"languages": {"dan_Latn": entry}, "learning": learning}}}

    sweep = sweep_of({"a": (0.1, 0.2), "b": (0.2, 0.3), "c": (0.4, 0.5)})
    runs = {name: results(of["learning"], above and name == "c1") for name, of in sweep.finished.items()}
    (sign,) = signs_of(replace(sweep, finished=runs))
    assert sign.figure == "cloze, learning"
    assert (sign.is_above_chance, sign.tells) == (above, above)


def test_the_interval_of_a_mean_over_seeds_is_students() -> None:
    three = _mean([1.0, 2.0, 3.0])
    assert (three.mean, three.half) == (2.0, pytest.approx(4.303 * 1 / 3**0.5))
    assert _mean([1.0]).half is None
    assert student_t(19) == pytest.approx(2.093, abs=1e-3)
