"""Whole runs on tiny bases of the architectures whose files or layers are unlike Llama's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import lingraft
from lingraft.architectures import ARCHITECTURES
from lingraft.checkpoints.export import probe_logits
from lingraft.checkpoints.mmap_weights import MappedWeights
from lingraft.checkpoints.read import read_model
from lingraft.errors import RecipeError

pytestmark = pytest.mark.integration

UNLIKE_LLAMA = ("phi3", "olmoe", "granite")
"""Architectures with linears of other names, experts, or logits that are scaled."""


@pytest.fixture(scope="module", params=UNLIKE_LLAMA)
def other_recipe(request, shared_recipe, make_model, tokenizer, tmp_path_factory) -> dict[str, Any]:
    """The recipe of other tests, on a base of another architecture."""
    folder = tmp_path_factory.mktemp(request.param)
    make_model(request.param).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {**shared_recipe, "base": str(folder)}


def test_layra_with_new_tokens_learns_and_publishes_a_model(other_recipe, tmp_path) -> None:
    results = lingraft.run({**other_recipe, "vocabulary": {"new_tokens": 8}}, tmp_path / "run")
    assert results["learning"] > 0
    model = read_model(tmp_path / "run" / "model", torch.float32)
    assert type(model) is type(read_model(Path(other_recipe["base"])))
    assert len(model.get_input_embeddings().weight) > 258


def test_full_with_l2sp_and_a_limit_of_forgetting_keeps_the_limit(other_recipe, tmp_path) -> None:
    recipe = {**other_recipe, "method": {"name": "full"}, "penalties": {"l2sp": {"first": 1, "last": 1}}}
    recipe["merge"] = [{"max_forgetting": 0.05}]
    results = lingraft.run(recipe, tmp_path / "run")
    assert results["max_forgetting"]["chosen"]["at_most"] <= 0.05
    logged = json.loads((tmp_path / "run" / "training.json").read_text())
    assert "l2sp_middle" in json.dumps(logged)


def test_live_parameters_are_found_in_the_files(other_recipe) -> None:
    base = Path(other_recipe["base"])
    stored = MappedWeights(base)
    for name, parameter in read_model(base).named_parameters():
        assert stored.shape(name) == tuple(parameter.shape), name
        assert torch.equal(stored[name], parameter), name


def test_half_a_language_vector_is_half_of_each_weight(other_recipe, tmp_path) -> None:
    base = Path(other_recipe["base"])
    adapted = read_model(base, torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    started = read_model(base, torch.float32)
    for model, name in ((started, "base"), (adapted, "adapted")):
        model.save_pretrained(tmp_path / name)
        for file in base.glob("tokenizer*"):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    lingraft.merge.vectors(tmp_path / "base", {tmp_path / "adapted": 0.5}, tmp_path / "half")
    with torch.no_grad():
        for parameter, end in zip(started.parameters(), adapted.parameters(), strict=True):
            parameter.lerp_(end, 0.5)
    half = read_model(tmp_path / "half", torch.float32)
    expected = probe_logits(started, started.config)
    torch.testing.assert_close(probe_logits(half, half.config), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "other_recipe", [name for name in UNLIKE_LLAMA if not ARCHITECTURES[name].gated_adapters], indirect=True
)
def test_a_method_that_the_base_cannot_have_is_refused_when_the_recipe_loads(other_recipe, tmp_path) -> None:
    with pytest.raises(RecipeError, match=r"method: 'adapters' puts gated blocks .* take lora, layra or full"):
        lingraft.run({**other_recipe, "method": {"name": "adapters"}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()
