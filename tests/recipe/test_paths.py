"""Relative paths of a recipe's file start at its own folder, and those of the command line at the current one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

import lingraft
from lingraft.errors import RecipeError
from lingraft.recipe import load_recipe, recipe_yaml


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """The current folder, which holds none of the recipe's files."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def written(recipe, base, texts, tmp_path):
    """A recipe below the folder of its base and texts, each named by its path from there, in every place of a path."""
    folder = tmp_path / "re[ci]pes"
    folder.mkdir()
    (folder / "template.jinja").write_text("{{ messages }}")
    shutil.copy(texts["eng_Latn"], folder / "questions.jsonl")
    recipe["base"] = "../base"
    recipe["corpus"][0]["files"] = ["../swh_Lat?.jsonl", "../swh_Latn.jsonl"]
    recipe["evaluation"] = {
        "text": {"eng_Latn": "../eng_Latn.jsonl", "spa_Latn": ["../spa_Latn.jsonl"]},
        "tasks": {"a.b": {"eng_Latn": "questions.jsonl"}},
    }
    recipe["merge"] = [{"vectors": {"../base": 0.5}}, {"soup": ["../base"]}, {"instruct": "../base", "scale": 0.5}]

    def write(values: dict = recipe) -> Path:
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
        return folder / "recipe.yaml"

    return write


def test_every_path_in_a_file_starts_at_its_folder(written, elsewhere, base, texts) -> None:
    resolved = load_recipe(written())
    assert resolved.base == str(base)
    assert resolved.only.corpus[0].files[1] == str(texts["swh_Latn"])
    assert resolved.evaluation.text["spa_Latn"] == [str(texts["spa_Latn"])]
    assert resolved.evaluation.tasks["a.b"].files["eng_Latn"][0].endswith("/questions.jsonl")
    assert [step.models for step in resolved.merge] == [[str(base)]] * 3


def test_the_same_in_stages(written, elsewhere, recipe, base, texts) -> None:
    stage = {key: recipe.pop(key) for key in ("corpus", "method", "training")}
    recipe["stages"] = {"one": stage}
    assert load_recipe(written()).stages["one"].corpus[0].files[1] == str(texts["swh_Latn"])


def test_a_resolved_recipe_means_the_same_from_everywhere(written, elsewhere, tmp_path) -> None:
    resolved = recipe_yaml(load_recipe(os.path.relpath(written())))
    (tmp_path / "resolved.yaml").write_text(resolved)
    assert recipe_yaml(load_recipe(tmp_path / "resolved.yaml")) == resolved


def test_a_path_on_the_command_line_starts_at_the_current_folder(written, elsewhere, texts) -> None:
    shutil.copy(texts["swh_Latn"], elsewhere / "own.jsonl")
    resolved = load_recipe(written(), ["corpus.0.files=own.jsonl"])
    assert resolved.only.corpus[0].files == [str(elsewhere / "own.jsonl")]


def test_a_path_in_a_mapping_starts_at_the_current_folder(recipe, elsewhere, base) -> None:
    recipe["base"] = "../base"
    assert load_recipe(recipe).base == str(base)


def test_a_file_that_is_not_there_is_named_by_where_it_was_looked_for(written, elsewhere, recipe) -> None:
    recipe["corpus"][0]["files"] = "nowhere.jsonl"
    path = written()
    with pytest.raises(RecipeError, match="no file matches") as caught:
        load_recipe(path)
    assert str(path.parent / "nowhere.jsonl") in str(caught.value)


def test_a_model_of_the_current_folder_is_not_taken_for_one_of_the_recipes(written, elsewhere, recipe, base) -> None:
    shutil.copytree(base, elsewhere / "mine")
    recipe["base"] = "mine"
    with pytest.raises(RecipeError) as caught:
        load_recipe(written())
    assert "'mine' is in the current folder; paths in a recipe start at its own: write ../elsewhere/mine" in str(
        caught.value
    )


def test_a_first_recipe_names_its_base_from_its_own_folder(elsewhere, base) -> None:
    lingraft.init("../base", ["swh_Latn"], out=Path("deep/down/first.yaml"))
    assert yaml.safe_load(Path("deep/down/first.yaml").read_text())["base"] == "../../../base"


def test_the_folder_of_a_run_stands_for_its_model(recipe, base, tmp_path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    base.rename(run / "model")
    resolved = load_recipe({**recipe, "base": str(run), "merge": [{"vectors": {str(run): 0.5}}]})
    assert resolved.base == str(run)
