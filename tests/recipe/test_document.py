"""`document:` of a recipe: what stands before and after each document of text."""

from __future__ import annotations

import pytest
import yaml

from lingraft.checkpoints.document_marks import DocumentMarks
from lingraft.errors import RecipeError
from lingraft.recipe import load_recipe, recipe_yaml


def test_it_is_decided_from_the_base(recipe) -> None:
    assert load_recipe(recipe).marks == DocumentMarks("<bos>", "<eos>")


@pytest.mark.parametrize("document", [{}, {"bos": "<eos>"}, {"eos": "<eos>"}, {"bos": "<bos>", "eos": "<bos>"}])
def test_a_token_that_is_not_named_stands_nowhere(recipe, document) -> None:
    resolved = load_recipe({**recipe, "document": document})
    assert resolved.marks == DocumentMarks(document.get("bos"), document.get("eos"))
    assert load_recipe(yaml.safe_load(recipe_yaml(resolved))).marks == resolved.marks


def test_a_token_that_the_base_does_not_have_is_a_problem_with_its_place(recipe) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe({**recipe, "document": {"eos": "<eso>"}})
    (problem,) = caught.value.problems
    assert problem.startswith("document.eos: '<eso>' is no token of the base (did you mean '<eos>'?); give one of its")
