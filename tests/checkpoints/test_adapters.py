"""A PEFT adapter is taken for the model that it makes of its base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import lingraft
from lingraft.errors import ModelError, UserError
from lingraft.methods import METHODS

pytestmark = pytest.mark.integration

merge = lingraft.merge


@pytest.fixture
def make_adapter(tmp_path):
    """A factory of adapters with random factors on a base folder, by lingraft's method or peft's config."""

    def make(base: Path, name: str, seed: int, method: str = "layra", config: LoraConfig | None = None) -> Path:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if config is None:
            layers = {"first": 1, "last": 1} if method == "layra" else {}
            wrapped = METHODS[method](name=method, rank=2, **layers).apply(model).adapter
        else:
            wrapped = get_peft_model(model, config)
        assert isinstance(wrapped, PeftModel)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in wrapped.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        wrapped.peft_config["default"].base_model_name_or_path = str(base)
        wrapped.save_pretrained(tmp_path / name, save_embedding_layers=False)
        return tmp_path / name

    return make


def _by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()


def _loaded(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text", "gemma3"])
@pytest.mark.parametrize("method", ["lora", "layra"])
def test_an_adapter_at_scale_1_is_what_peft_merges(
    make_family, make_adapter, tmp_path, architecture, tied, method
) -> None:
    base = make_family(architecture, tied, torch.float32)["base"]
    adapter = make_adapter(base, "adapter", 1, method)
    merge.vectors(base, {adapter: 1}, tmp_path / "out")
    expected, out = _by_peft(base, adapter), _loaded(tmp_path / "out")
    assert out.keys() == expected.keys()
    for name in expected:
        assert torch.allclose(out[name], expected[name], rtol=0, atol=1e-6), name


def test_an_adapter_at_scale_0_is_its_base(family, make_adapter, same_bits, tmp_path) -> None:
    merge.vectors(family["base"], {make_adapter(family["base"], "adapter", 1): 0}, tmp_path / "out")
    same_bits(tmp_path / "out", family["base"])


def test_tensors_that_an_adapter_does_not_touch_stay_bit_for_bit(family, make_adapter, tensors, tmp_path) -> None:
    merge.vectors(family["base"], {make_adapter(family["base"], "adapter", 1): 0.3}, tmp_path / "out")
    out, base = tensors(tmp_path / "out"), tensors(family["base"])
    untouched = [name for name in base if ".layers.1." in name or ".layers.2." in name or "norm" in name]
    assert len(untouched) > 18
    assert all(torch.equal(out[name], base[name]) for name in untouched)


def test_adapters_and_models_of_one_base_are_combined(make_family, make_adapter, tmp_path) -> None:
    family = make_family(dtype=torch.float32)
    base, adapter, other = (
        family["base"],
        make_adapter(family["base"], "one", 1),
        make_adapter(family["base"], "two", 2),
    )
    merge.vectors(base, {adapter: 0.5, other: 0.25, family["a"]: 0.25}, tmp_path / "vectors")
    merge.soup({adapter: 2, other: 1, family["a"]: 1}, tmp_path / "soup")
    merge.revert(adapter, base, tmp_path / "reverted", first=1, last=0)
    zero, one, two, a = _loaded(base), _by_peft(base, adapter), _by_peft(base, other), _loaded(family["a"])
    out = {name: _loaded(tmp_path / name) for name in ("vectors", "soup", "reverted")}
    for name in zero:
        mean = 0.5 * one[name] + 0.25 * two[name] + 0.25 * a[name]
        assert torch.allclose(out["vectors"][name], mean, rtol=0, atol=1e-6)
        assert torch.allclose(out["soup"][name], mean, rtol=0, atol=1e-6)
        kept = zero if ".layers.3." in name else one
        assert torch.allclose(out["reverted"][name], kept[name], rtol=0, atol=1e-6)


def test_ties_and_dare_take_adapters(make_family, make_adapter, tmp_path) -> None:
    base = make_family(dtype=torch.float32)["base"]
    adapter = make_adapter(base, "adapter", 1)
    for method in (merge.ties, merge.dare):
        method(base, {adapter: 1}, tmp_path / "out", density=1)
        out, expected = _loaded(tmp_path / "out"), _by_peft(base, adapter)
        assert all(torch.allclose(out[name], expected[name], rtol=0, atol=1e-6) for name in expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 7, "layers.1.mlp.up_proj": 3}},
        {"rank_pattern": {"v_proj": 4}},
    ],
    ids=["rslora", "alpha_pattern", "rank_pattern"],
)
def test_scales_are_those_of_peft(make_family, make_adapter, tmp_path, settings) -> None:
    base = make_family(dtype=torch.float32)["base"]
    config = LoraConfig(r=2, lora_alpha=5, target_modules=["q_proj", "v_proj", "up_proj"], **settings)
    adapter = make_adapter(base, "adapter", 1, config=config)
    merge.soup([adapter], tmp_path / "out")
    out, expected = _loaded(tmp_path / "out"), _by_peft(base, adapter)
    assert all(torch.allclose(out[name], expected[name], rtol=0, atol=1e-6) for name in expected)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"use_dora": True}, "use_dora True"),
        ({"bias": "all"}, "bias 'all'"),
        ({"init_lora_weights": "olora"}, "init_lora_weights 'olora'"),
    ],
    ids=["dora", "bias", "olora"],
)
def test_an_adapter_that_is_more_than_lora_is_refused(family, make_adapter, tmp_path, settings, named) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], **settings)
    adapter = make_adapter(family["base"], "adapter", 1, config=config)
    with pytest.raises(ModelError, match=f"only plain LoRA .* {named}: merge it into its base with peft first"):
        merge.vectors(family["base"], {adapter: 1}, tmp_path / "out")


def test_an_adapter_knows_its_base(family, make_adapter, same_bits, tmp_path) -> None:
    adapter = make_adapter(family["base"], "adapter", 1)
    with pytest.raises(ModelError, match=r"was made from .*base .*--force"):
        merge.vectors(family["b"], {adapter: 0.5}, tmp_path / "out")
    copy = tmp_path / "copy"
    shutil.copytree(family["base"], copy)
    same_bits(
        merge.vectors(copy, {adapter: 0.5}, tmp_path / "of-copy"),
        merge.vectors(family["base"], {adapter: 0.5}, tmp_path / "of-base"),
    )


def test_an_adapter_whose_base_is_gone_needs_force(family, make_adapter, same_bits, tmp_path) -> None:
    adapter = make_adapter(family["base"], "adapter", 1)
    expected = merge.vectors(family["base"], {adapter: 0.5}, tmp_path / "expected")
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": "./gone"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"base that this adapter names cannot be had .*--force"):
        merge.vectors(family["base"], {adapter: 0.5}, tmp_path / "out")
    same_bits(merge.vectors(family["base"], {adapter: 0.5}, tmp_path / "out", force=True), expected)


def test_embeddings_that_came_apart_in_an_adapter_are_refused(make_family, make_adapter, tmp_path) -> None:
    base = make_family(tied=True)["base"]
    adapter = make_adapter(base, "adapter", 1)
    from safetensors.torch import save_file

    stored = load_file(adapter / "adapter_model.safetensors")
    head = next(name for name in stored if "lm_head" in name)
    save_file({**stored, head: stored[head] + 1}, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="ties the head to the embeddings, but the files hold two that differ"):
        merge.soup([adapter], tmp_path / "out")


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.parametrize("method", ["lora", "layra"])
def test_a_sum_of_adapters_can_stay_an_adapter(make_family, make_adapter, tmp_path, architecture, tied, method) -> None:
    base = make_family(architecture, tied, torch.float32)["base"]
    pair = {make_adapter(base, "one", 1, method): 0.5, make_adapter(base, "two", 2, method): -0.25}
    merge.vectors(base, pair, tmp_path / "model")
    merge.vectors(base, pair, tmp_path / "adapter", adapter=True)
    expected, out = _loaded(tmp_path / "model"), _by_peft(base, tmp_path / "adapter")
    assert all(torch.allclose(out[name], expected[name], rtol=0, atol=1e-6) for name in expected)
    merge.vectors(base, {tmp_path / "adapter": 1}, tmp_path / "again")
    out = _loaded(tmp_path / "again")
    assert all(torch.allclose(out[name], expected[name], rtol=0, atol=1e-6) for name in expected)


def test_adapters_of_other_layers_and_ranks_are_stacked(make_family, make_adapter, tmp_path) -> None:
    base = make_family(dtype=torch.float32)["base"]
    wide = LoraConfig(r=3, lora_alpha=9, target_modules=["q_proj", "up_proj"], layers_to_transform=[0, 2])
    narrow = LoraConfig(r=1, lora_alpha=2, target_modules=["q_proj"], use_rslora=True)
    models = [make_adapter(base, "wide", 1, config=wide), make_adapter(base, "narrow", 2, config=narrow)]
    merge.soup(models, tmp_path / "model")
    merge.soup(models, tmp_path / "adapter", adapter=True)
    expected, out = _loaded(tmp_path / "model"), _by_peft(base, tmp_path / "adapter")
    assert all(torch.allclose(out[name], expected[name], rtol=0, atol=1e-6) for name in expected)


def test_a_whole_model_in_the_sum_cannot_stay_an_adapter(family, make_adapter, tmp_path) -> None:
    both = {make_adapter(family["base"], "adapter", 1): 0.5, family["a"]: 0.5}
    with pytest.raises(UserError, match=r"only where all models are adapters on one base, and .* is no adapter"):
        merge.vectors(family["base"], both, tmp_path / "out", adapter=True)
    assert not (tmp_path / "out").exists()
