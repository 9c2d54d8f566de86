"""No problem of a recipe hides another."""

from __future__ import annotations

import importlib.util

import pytest

from lingraft.errors import RecipeError
from lingraft.recipe import load_recipe


@pytest.fixture
def places(recipe):
    """The places of the problems that a recipe has after some overrides."""

    def find(*overrides: str, values: dict | None = None) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            load_recipe(values or recipe, overrides)
        return sorted(problem.split(": ")[0] for problem in caught.value.problems)

    return find


def test_a_missing_file_hides_no_wrong_setting_and_no_missing_package(places) -> None:
    found = places("corpus.0.files=nowhere.jsonl", "training.adam_beta1=2", "training.optim=adamw_bnb_8bit")
    assert found == ["corpus.0.files.0", "training", "training.adam_beta1"]


def test_instructions_without_their_library_show_beside_a_problem_of_form(places, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "trl" else find(name, *a))
    found = places("corpus=", "instructions=[]", "seed=-1", "max_length=999", "training.foo=1")
    assert {"seed", "max_length", "training.foo"} <= set(found)


SECTIONS = {
    "base": ["base"],
    "languages": ["languages.learn"],
    "method.rank": ["method.rank"],
    "corpus.0.tokens": ["corpus.0.tokens"],
    "validation.blocks": ["validation.blocks"],
    "evaluation.num_samples": ["evaluation.num_samples"],
    "penalties.l2sp": ["penalties.l2sp"],
    "merge": ["merge"],
    "export": ["export"],
    "seed": ["seed"],
    "nothing": ["nothing"],
}


@pytest.mark.parametrize(("key", "expected"), SECTIONS.items(), ids=SECTIONS)
def test_a_broken_section_hides_no_problem_of_another_and_makes_none_up(places, key, expected) -> None:
    assert places(f"{key}={{}}", "training.adam_beta1=2") == sorted([*expected, "training.adam_beta1"])


def test_a_broken_section_hides_no_problem_with_the_base(places) -> None:
    assert places("corpus.0.tokens=-1", "method.first=40", "max_length=999") == [
        "corpus.0.tokens",
        "max_length",
        "method",
    ]
    assert places("seed=-1", "base=./nowhere") == ["base", "seed"]


def test_a_broken_stage_hides_no_problem_of_another(places, recipe) -> None:
    stage = {key: recipe.pop(key) for key in ("corpus", "method", "training")}
    values = {**recipe, "stages": {"one": {**stage, "method": {"name": "layra", "rank": 0}}, "two": stage}}
    found = places(
        "stages.two.method.first=40", "stages.two.training.foo=1", "stages.one.training.foo=1", values=values
    )
    assert found == [
        "stages.one.method.rank",
        "stages.one.training.foo",
        "stages.two.method",
        "stages.two.training.foo",
    ]


def test_a_recipe_that_is_wrong_as_a_whole_has_its_problem_of_form(places, recipe) -> None:
    assert places("stages={a: 5}") == ["stages"]
    assert places("stages={a: 5}", values={"base": "x", "languages": {"learn": ["swh_Latn"]}}) == ["stages.a"]
