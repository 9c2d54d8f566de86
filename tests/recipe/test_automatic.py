"""`method: auto` is written out as plain keys, by the base and by what comes after."""

from __future__ import annotations

import pytest
import yaml
from transformers import AutoConfig

from lingraft.errors import RecipeError
from lingraft.recipe import load_recipe, recipe_yaml
from lingraft.recipe.automatic import extra_width_of

pytestmark = pytest.mark.integration


@pytest.fixture
def automatic(recipe):
    """The recipe with `method: auto` and nothing about training."""
    recipe.pop("training")
    return {**recipe, "method": "auto"}


@pytest.mark.parametrize("written", ["auto", {"name": "auto"}])
def test_the_resolved_recipe_has_plain_keys(automatic, written) -> None:
    resolved = yaml.safe_load(recipe_yaml(load_recipe({**automatic, "method": written})))
    assert resolved["method"]["name"] == "silent-adapters"
    assert (resolved["method"]["extra_width"], resolved["export"]) == (2, "wider")
    assert resolved["training"]["learning_rate"] == 5e-3
    assert resolved["replay"] | {"self_generated": 0.2, "kl_weight": 4.0} == resolved["replay"]
    assert load_recipe(resolved) == load_recipe({**automatic, "method": written})


def test_what_is_given_stays(automatic) -> None:
    automatic |= {"training": {"learning_rate": 1e-3}, "replay": {"self_generated": 0.4}}
    stage = load_recipe(automatic).only
    assert (stage.training["learning_rate"], stage.replay.self_generated, stage.replay.kl_weight) == (1e-3, 0.4, 1.0)


def test_a_model_that_is_merged_keeps_the_shape_of_the_base(automatic) -> None:
    assert load_recipe({**automatic, "merge": [{"scale": 0.5}]}).only.method.name == "full"


def test_a_stage_that_hands_its_model_on_keeps_the_shape_of_the_base(automatic) -> None:
    stage = {key: automatic.pop(key) for key in ("method", "corpus")}
    recipe = load_recipe({**automatic, "stages": {"a": stage, "b": dict(stage)}})
    assert [each.method.name for each in recipe.stages.values()] == ["full", "silent-adapters"]


@pytest.mark.parametrize(
    "settings", [{"export": "plain"}, {"averaging": {"pull": {"every": 0.1, "beta": 0.5}}}, {"penalties": {"l2sp": {}}}]
)
def test_keys_that_need_the_shape_of_the_base_are_heard(automatic, settings) -> None:
    settings = {**settings, "penalties": {"l2sp": {"first": 1, "last": 1}}} if "penalties" in settings else settings
    assert load_recipe({**automatic, **settings}).only.method.name == "full"


def test_an_export_of_wider_blocks_alone_leaves_the_stream_as_it_is(automatic) -> None:
    method = load_recipe({**automatic, "export": "wide-ffn"}).only.method
    assert (method.name, method.extra_width) == ("silent-adapters", 0)


@pytest.mark.parametrize(
    ("model_type", "width", "heads", "extra"),
    [
        ("llama", 576, 9, 72),
        ("llama", 4096, 32, 512),
        ("qwen2", 896, 14, 0),
        ("qwen3", 2048, 16, 256),
        ("mistral", 64, 4, 8),
        ("gemma", 2048, 8, 0),
    ],
)
def test_the_stream_gains_an_eighth_where_it_can(model_type, width, heads, extra) -> None:
    config = AutoConfig.for_model(model_type, hidden_size=width, num_attention_heads=heads)
    assert extra_width_of(config) == extra


@pytest.mark.parametrize("training", [5, "fast", [1]])
def test_training_that_is_no_mapping_is_the_problem(automatic, training) -> None:
    with pytest.raises(RecipeError, match="training: "):
        load_recipe({**automatic, "training": training})


def test_a_recipe_without_a_base_is_told_so(automatic) -> None:
    automatic.pop("base")
    with pytest.raises(RecipeError, match="base: is missing"):
        load_recipe(automatic)


def test_an_override_can_ask_for_it(recipe) -> None:
    assert load_recipe(recipe, ["method=auto"]).only.method.name == "silent-adapters"


def test_instructions_need_a_method_by_name(automatic, texts) -> None:
    automatic.pop("corpus")
    automatic["instructions"] = [{"language": "swh_Latn", "files": str(texts["swh_Latn"])}]
    with pytest.raises(RecipeError, match="method: auto is for text") as caught:
        load_recipe(automatic)
    assert "replay" not in str(caught.value)


def test_a_base_that_is_not_there_is_the_problem(automatic) -> None:
    with pytest.raises(RecipeError, match=r"base: './nowhere'") as caught:
        load_recipe({**automatic, "base": "./nowhere"})
    assert "auto" not in str(caught.value)
