"""Diagnoses of a finished run."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file, save_file

import lingraft
from lingraft.errors import ModelError, UserError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(shared_recipe, tmp_path_factory):
    """Full training of embeddings, the first two layers, the last one, and the head."""
    recipe = json.loads(json.dumps(shared_recipe))
    recipe["method"] = {"name": "layer-selective", "first": 2, "last": 1}
    out = tmp_path_factory.mktemp("diagnosed") / "out"
    lingraft.run(recipe, out)
    return out, recipe


def test_drift_is_the_norm_of_the_change_by_the_norm_of_the_base(run, tmp_path) -> None:
    out, recipe = run
    found = lingraft.diagnose("drift", out, tmp_path / "drift.json")
    before = load_file(f"{recipe['base']}/model.safetensors")
    after = load_file(out / "model" / "model.safetensors")
    of_layer = [name for name in before if ".layers.1." in name and "mlp" in name]
    moved = sum(float((after[n].float() - before[n].float()).square().sum()) for n in of_layer)
    size = sum(float(before[n].float().square().sum()) for n in of_layer)
    assert found["layers"]["feed-forward"][1] == pytest.approx((moved / size) ** 0.5)
    assert found["layers"]["attention"][2] == 0  # the middle layer
    assert found["groups"]["middle"] == 0
    assert 0 < found["groups"]["first"] < 1
    assert json.loads((tmp_path / "drift.json").read_text()) == found
    assert "Distance from the base by layer" in (tmp_path / "drift.html").read_text()


def test_interpolation_moves_one_group_and_leaves_the_others(run, tmp_path, texts) -> None:
    out, recipe = run
    found = lingraft.diagnose("interpolation", out, tmp_path / "i.json")
    results = json.loads((out / "results.json").read_text())
    assert "middle" not in found["groups"]  # it did not move
    for curve in found["groups"].values():
        assert [point["alpha"] for point in curve] == [0, 0.25, 0.5, 0.75, 1]
        for code, bits in curve[-1]["bits per byte"].items():
            assert bits == pytest.approx(results["languages"][code]["bits_per_byte"]["after"])
    before = load_file(f"{recipe['base']}/model.safetensors")
    after = load_file(out / "model" / "model.safetensors")
    by_hand = tmp_path / "by_hand"
    by_hand.mkdir()
    for file in (out / "model").iterdir():
        if file.name != "model.safetensors":
            (by_hand / file.name).write_bytes(file.read_bytes())
    mixed = {
        name: (before[name].float() + 0.5 * (tensor.float() - before[name].float())).to(tensor.dtype)
        if ".layers.0." in name or ".layers.1." in name
        else tensor
        for name, tensor in after.items()
    }
    save_file(mixed, by_hand / "model.safetensors", metadata={"format": "pt"})
    split = out / "work" / "split"
    measured = lingraft.evaluate(
        by_hand, {code: str(split / f"held-out-{code}.jsonl") for code in results["languages"]}, max_length=32
    )
    half = found["groups"]["first"][2]["bits per byte"]
    for code, bits in half.items():
        assert bits == pytest.approx(measured["languages"][code]["bits_per_byte"]["after"], rel=1e-4)
    assert "What the movement of a group does to bits per byte" in (tmp_path / "i.html").read_text()


def test_what_cannot_be_diagnosed_says_why(run, recipe, tmp_path) -> None:
    out, _ = run
    with pytest.raises(UserError, match=r"diagnose drfit: allowed are drift, interpolation \(did you mean 'drift'"):
        lingraft.diagnose("drfit", out, tmp_path / "x.json")
    with pytest.raises(UserError, match="this is not the folder of a finished run"):
        lingraft.diagnose("drift", tmp_path / "nothing", tmp_path / "x.json")
    with pytest.raises(UserError, match=r"give a name that ends in \.json"):
        lingraft.diagnose("drift", out, tmp_path / "x.html")
    recipe["vocabulary"] = {"new_tokens": 5}
    recipe["training"]["max_steps"] = 1
    lingraft.run(recipe, tmp_path / "new")
    with pytest.raises(ModelError, match=r"is 264x32 in the result and 258x32 in the base"):
        lingraft.diagnose("drift", tmp_path / "new", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()
