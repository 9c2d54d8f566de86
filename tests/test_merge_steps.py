"""`after:` of a recipe: arithmetic on what training wrote, in the run itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import lingraft
from lingraft.errors import ModelError, RecipeError

pytestmark = pytest.mark.integration


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}


@pytest.fixture
def other(tmp_path, base, make_model, tokenizer) -> Path:
    """Another model of the same architecture, with a chat template."""
    model = make_model().to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return tmp_path / "other"


def test_the_steps_are_one_sum_of_trained_base_and_others(recipe, other, tmp_path) -> None:
    """Scaled, its middle reverted, mixed, its embeddings moved, a vector added, and all that on an instruct model."""
    after = [
        {"scale": 0.5},
        {"revert": {"first": 1, "last": 1}},
        {"soup": {str(other): 1}, "weight": 3},
        {"interpolate": {"first": 1, "last": 1, "scale": {"embeddings": 0.25}}},
        {"vectors": {str(other): 0.1}},
        {"instruct": str(other), "scale": 0.7},
    ]
    lingraft.run({**recipe, "merge": after}, tmp_path / "out")
    base, chat = _weights(Path(recipe["base"])), _weights(other)
    trained = _weights(tmp_path / "out" / "work" / "adapted" / "model")
    result = _weights(tmp_path / "out" / "model")
    for name, zero in base.items():
        theta = zero + 0.5 * (trained[name] - zero)
        if ".layers.1." in name or ".layers.2." in name:
            theta = zero
        theta = (3 * theta + chat[name]) / 4
        if "embed_tokens" in name:
            theta = zero + 0.25 * (theta - zero)
        theta = theta + 0.1 * (chat[name] - zero)
        exact = chat[name] + 0.7 * (theta - zero)
        assert torch.allclose(result[name], exact, rtol=2**-8, atol=1e-6), name


def test_an_instruct_step_is_also_measured_against_the_instruct_model(recipe, other, tmp_path) -> None:
    results = lingraft.run({**recipe, "merge": [{"instruct": str(other), "scale": 0.7}]}, tmp_path / "out")
    assert results["instruct"]["base"] == other.name
    alone = lingraft.evaluate(str(other), {"eng_Latn": recipe["evaluation"]["text"]["eng_Latn"]}, max_length=32)
    against = results["instruct"]["languages"]["eng_Latn"]["bits_per_byte"]
    assert against["before"] == pytest.approx(alone["languages"]["eng_Latn"]["bits_per_byte"]["after"])
    assert against["after"] == results["languages"]["eng_Latn"]["bits_per_byte"]["after"]
    assert (tmp_path / "out" / "model" / "chat_template.jinja").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Against the instruct model" in page
    assert "Merge steps, in this order: instruct" in page


def test_a_vector_of_another_base_is_refused_when_the_recipe_loads(recipe, other, tmp_path) -> None:
    record = {"base": {"name": "another", "fingerprint": "0123456789abcdef"}}
    (other / "lingraft.json").write_text(json.dumps(record))
    with pytest.raises(RecipeError, match=r"merge: .*was made from another .*\(fingerprint 0123456789abcdef\)"):
        lingraft.run({**recipe, "merge": [{"vectors": {str(other): 1}}]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_run_is_a_parent_of_the_next(recipe, texts, tmp_path) -> None:
    """LayRA-merge of two languages: the second run adds the vector that the first left."""
    lingraft.run(recipe, tmp_path / "one")
    second = {
        **recipe,
        "seed": 1,
        "merge": [{"scale": 0.5}, {"vectors": {str(tmp_path / "one" / "model"): 0.5}}],
    }
    lingraft.run(second, tmp_path / "two")
    base = _weights(Path(recipe["base"]))
    one, two = _weights(tmp_path / "one" / "model"), _weights(tmp_path / "two" / "work" / "adapted" / "model")
    for name, tensor in _weights(tmp_path / "two" / "model").items():
        exact = base[name] + 0.5 * (two[name] - base[name]) + 0.5 * (one[name] - base[name])
        assert torch.allclose(tensor, exact, rtol=2**-8, atol=1e-6), name
    AutoModelForCausalLM.from_pretrained(tmp_path / "two" / "model")
    adapter = lingraft.merge.vectors(recipe["base"], {tmp_path / "one" / "adapter": 1}, tmp_path / "from-adapter")
    for name, tensor in _weights(adapter).items():
        assert torch.allclose(tensor, one[name], rtol=2**-7, atol=1e-6), name


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"scal": 0.5}, r"merge.0: no step of this kind \(did you mean 'scale'\?\); steps: vectors"),
        ({"revert": {"frst": 1, "last": 1}}, r"merge.0.revert.frst: unknown key \(did you mean 'first'\?\)"),
        ({"revert": {"first": 20, "last": 1}}, "merge: first=20 and last=1 are 21 layers, but the model has 4"),
        ({"instruct": "./nowhere", "scale": 1}, "merge.0: './nowhere': there is no such folder"),
        ({"instruct": "./nowhere"}, "merge.0.scale: is missing"),
        ({"scale": "half"}, "merge.0.scale: should be a valid number"),
        ({"scale": 1, "rank": 2}, "merge.0.rank: unknown key; allowed here: scale"),
        ({"interpolate": {"first": 1, "last": 1, "scale": {"mid": 0}}}, "merge: scale of 'mid': .* it has embeddings"),
        ("scale", "merge.0: no step of this kind"),
    ],
    ids=["verb", "key", "depth", "no model", "no scale", "no number", "two verbs", "no group", "no mapping"],
)
def test_a_wrong_step_is_named_with_its_place(recipe, tmp_path, step, message) -> None:
    with pytest.raises(RecipeError, match=message):
        lingraft.run({**recipe, "merge": [step]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_after_an_instruct_step_the_model_is_no_vector_of_the_base(recipe, other, tmp_path) -> None:
    """Instruct + 0.7 (theta - base), less the base, would be the instruct model's vector too."""
    lingraft.run({**recipe, "merge": [{"instruct": str(other), "scale": 0.7}]}, tmp_path / "out")
    origin = json.loads((tmp_path / "out" / "lingraft.json").read_text())
    assert origin["base"]["name"] == other.name
    assert origin["trained_from"]["name"] == Path(recipe["base"]).name
    with pytest.raises(ModelError, match="only the difference from a model's own base is a task vector"):
        lingraft.merge.vectors(recipe["base"], {str(tmp_path / "out" / "model"): 0.5}, tmp_path / "sum")
