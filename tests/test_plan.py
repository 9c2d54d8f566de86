from __future__ import annotations

import json
import re

import pytest
import torch
import transformers

from lingraft.pipeline.plan import Plan, make_plan, plan_text, whole_plan
from lingraft.recipe import Recipe, load_recipe

pytestmark = pytest.mark.integration

LLAMA_8B = transformers.LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=131072,
)  # fmt: skip
QWEN_7B = transformers.Qwen2Config(
    vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28,
    num_attention_heads=28, num_key_value_heads=4, max_position_embeddings=131072,
)  # fmt: skip


def planned(recipe: Recipe) -> Plan:
    """The plan of a recipe of one stage."""
    return make_plan(recipe, recipe.only)


@pytest.fixture
def recipe_of(recipe, tmp_path):
    """The good recipe on a folder that has a config and nothing else."""

    def build(config, **method):
        folder = tmp_path / config.model_type
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        return load_recipe({**recipe, "base": str(folder), "method": {"name": "layra", **method}})

    return build


@pytest.mark.parametrize(
    ("config", "adapters", "in_full"),
    [(LLAMA_8B, 7_864_320, 1_050_673_152), (QWEN_7B, 8_650_752, 1_089_994_752)],
    ids=["Llama 3.1 8B", "Qwen 2.5 7B"],
)
def test_layra_trains_the_papers_weights_on_the_papers_models(recipe_of, config, adapters, in_full) -> None:
    plan = planned(recipe_of(config, first=10, last=2, rank=8))
    assert plan.adapter_weights == adapters
    assert plan.full_weights == in_full
    assert sum(part.weights for part in plan.stack) > 7e9


def test_memory_parts_follow_from_the_weights(recipe_of, recipe, tmp_path) -> None:
    plan = planned(recipe_of(LLAMA_8B))
    trained = 7_864_320 + 1_050_673_152
    assert plan.memory["gradients"] == 4 * trained
    assert plan.memory["optimizer"] == 8 * trained
    assert plan.memory["weights"] >= 4 * trained
    assert plan.memory["logits"] == 4 * 32 * 128256 * 16  # batch, length, vocabulary, bytes
    long = load_recipe({**recipe, "base": str(tmp_path / "llama"), "max_length": 2048})
    assert make_plan(long, long.only).memory["logits"] == 2**25 * 16  # a chunk


def test_weights_by_group_are_those_that_the_run_trains(recipe, base) -> None:
    plan = planned(load_recipe(recipe))
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    resolved = load_recipe(recipe)
    adaptation = resolved.only.method.apply(model)
    trained = sum(adaptation.model.get_parameter(name).numel() for name in adaptation.trainable)
    assert plan.adapter_weights + plan.full_weights == trained


def test_a_text_that_is_read_whole_is_counted_whole(recipe, texts, tokenizer) -> None:
    del recipe["corpus"][0]["tokens"]
    recipe["validation"]["share"] = 0.5
    documents = [json.loads(line)["text"] for line in texts["swh_Latn"].read_text().splitlines()]
    tokens = sum(len(tokenizer(text).input_ids) + 2 for text in documents)
    assert planned(load_recipe(recipe)).tokens[0] == pytest.approx(tokens / 2, abs=1)


def test_shares_are_of_all_tokens(recipe, texts) -> None:
    recipe["corpus"].append({"language": "eng_Latn", "files": str(texts["eng_Latn"]), "share": 0.2})
    plan = planned(load_recipe(recipe))
    assert plan.tokens == {0: 2000, 1: 500}
    assert plan.steps == 20  # 2,500 tokens in steps of 4 x 32, the last one short


def test_a_hub_corpus_without_a_budget_leaves_the_steps_open(recipe) -> None:
    recipe["corpus"] = [{"language": "swh_Latn", "hub": "some/data"}]
    plan = planned(load_recipe(recipe))
    assert plan.steps is None
    assert "not known before the text is read" in plan_text(load_recipe(recipe), load_recipe(recipe).only, plan)


def test_what_does_not_fit_is_said(recipe_of, monkeypatch) -> None:
    monkeypatch.setattr("lingraft.pipeline.plan._device", lambda: ("a small one", 10 * 2**30))
    resolved = recipe_of(LLAMA_8B)
    plan = make_plan(resolved, resolved.only)
    assert not plan.fits
    assert "does not fit" in plan_text(resolved, resolved.only, plan)


def test_planning_allocates_no_weights(recipe_of, monkeypatch) -> None:
    resolved = recipe_of(LLAMA_8B)
    built = []
    empty = torch.nn.Linear.reset_parameters
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda self: built.append(self.weight) or empty(self))
    make_plan(resolved, resolved.only)
    assert len(built) > 200
    assert all(weight.is_meta for weight in built if weight.numel() > 1_000_000)


def test_the_plan_says_what_validation_costs(recipe) -> None:
    del recipe["validation"]["blocks"]
    recipe["training"]["eval_steps"] = 0.1
    text = whole_plan(load_recipe(recipe))
    assert re.search(
        r"validation  \d+ times 2 blocks of 3 languages: at most [\d,]+ tokens, \d+% of those that train", text
    )


def test_the_plan_says_which_devices_are_missing_here(recipe) -> None:
    recipe["training"]["fp16"] = True
    resolved = load_recipe(recipe, runs_here=False)
    assert (
        "training.fp16: mixed precision in fp16 needs a GPU" in whole_plan(resolved)
    ) is not torch.accelerator.is_available()
