from __future__ import annotations

import pytest
import yaml

import lingraft
from lingraft.errors import OutputError, RecipeError, UserError
from lingraft.recipe import load_recipe
from lingraft.recipe.starter import GOALS


@pytest.mark.parametrize("goal", GOALS)
def test_a_first_recipe_needs_no_more_than_its_texts(base, texts, tmp_path, monkeypatch, goal) -> None:
    monkeypatch.chdir(tmp_path)
    lingraft.init(str(base), ["swh_Latn"], ["eng_Latn"], goal, tmp_path / "first.yaml")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "first.yaml")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["evaluation.text.eng_Latn.0"]
    assert load_recipe(tmp_path / "first.yaml", [f"evaluation.text.eng_Latn={texts['eng_Latn']}"])


def test_layers_are_fitted_to_the_depth_of_the_base(base, tmp_path) -> None:
    method = yaml.safe_load(lingraft.init(str(base), ["swh_Latn"], out=tmp_path / "first.yaml"))["method"]
    assert method == {"name": "layra", "first": 1, "last": 1}  # 10 and 2 of 32, for 4 layers


def test_a_base_that_cannot_be_looked_up_gets_the_papers_layers(tmp_path) -> None:
    method = yaml.safe_load(lingraft.init("some/base", ["swh_Latn"], out=tmp_path / "first.yaml"))["method"]
    assert method == {"name": "layra", "first": 10, "last": 2}


def test_nothing_is_overwritten(base, tmp_path) -> None:
    (tmp_path / "first.yaml").write_text("mine")
    with pytest.raises(OutputError, match=r"first\.yaml exists"):
        lingraft.init(str(base), ["swh_Latn"], out=tmp_path / "first.yaml")
    assert (tmp_path / "first.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learn": ["swahilli"]}, "'swahilli' is not a language code"),
        ({"learn": []}, "no language to learn"),
        ({"retain": ["swh_Latn"]}, "swh_Latn is named more than once"),
        ({"goal": "fame"}, "there is no such goal; goals: balanced, comprehension, translation, coverage"),
    ],
)
def test_wrong_input_is_refused_and_nothing_is_written(base, tmp_path, arguments, message) -> None:
    with pytest.raises(UserError, match=message):
        lingraft.init(**{"base": str(base), "learn": ["swh_Latn"], "out": tmp_path / "first.yaml", **arguments})
    assert not (tmp_path / "first.yaml").exists()
