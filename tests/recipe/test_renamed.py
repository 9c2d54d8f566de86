"""Keys of the first edition of recipes are errors that name the new ones."""

from __future__ import annotations

import pytest

from lingraft.errors import RecipeError
from lingraft.recipe import load_recipe

OLD = {
    "languages.heldout": ({"languages": {"learn": ["swh_Latn"], "heldout": ["fra_Latn"]}}, "observe"),
    "after": ({"after": [{"scale": 0.5}]}, "merge"),
    "merge.0.forget_at_most": ({"merge": [{"forget_at_most": 0.01}]}, "max_forgetting"),
    "replay.self": ({"replay": {"self": 0.2}}, "self_generated"),
    "replay.strength": ({"replay": {"self_generated": 0.2, "strength": 1.0}}, "kl_weight"),
    "replay.batch": ({"replay": {"self_generated": 0.2, "batch": 8}}, "batch_size"),
    "vocabulary.add": ({"vocabulary": {"add": 20}}, "new_tokens"),
    "validation.choice": ({"validation": {"choice": 0.5}}, "selection_share"),
    "penalties.l2sp.strength": ({"penalties": {"l2sp": {"first": 1, "last": 1, "strength": {}}}}, "weight"),
    "method.alpha": ({"method": {"name": "neutral-residues", "alpha": 0.1}}, "loss_weight"),
    "method.extra_weights": ({"method": {"name": "lora-ffn", "extra_weights": 0.1}}, "extra_parameters"),
    "evaluation.samples": ({"evaluation": {"samples": 2}}, "num_samples"),
}


@pytest.mark.parametrize("place", OLD)
def test_an_old_key_is_an_error_that_names_the_new_one(recipe, place) -> None:
    settings, name = OLD[place]
    with pytest.raises(RecipeError) as error:
        load_recipe({**recipe, **settings})
    assert f"{place}: this key is called '{name}' now" in str(error.value)


def test_the_same_of_an_entry_of_a_corpus_and_within_a_stage(recipe) -> None:
    entry = {**recipe["corpus"][0], "repeat": 2}
    stage = {key: recipe.pop(key) for key in ("corpus", "method", "training")}
    with pytest.raises(RecipeError, match=r"stages\.adapt\.corpus\.0\.repeat: this key is called 'max_epochs' now"):
        load_recipe({**recipe, "stages": {"adapt": {**stage, "corpus": [entry]}}})


@pytest.mark.parametrize(("old", "new"), [("pieces", "subtoken-mean"), ("pieces-norm", "subtoken-mean-norm")])
def test_an_old_value_is_an_error_that_names_the_new_one(recipe, old, new) -> None:
    with pytest.raises(RecipeError, match=f"vocabulary.init: '{old}' is called '{new}' now"):
        load_recipe({**recipe, "vocabulary": {"new_tokens": 20, "init": old}})
