"""The laws of checkpoint arithmetic, and every method against its naive version in float64."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import lingraft
from lingraft.layer_groups import LayerGroup, LayerRange, layer_group
from lingraft.merging import tensor_reader as operands

pytestmark = pytest.mark.integration

merge = lingraft.merge
ALL = dict.fromkeys(("embeddings", "first", "middle", "last", "final_norm", "head"), 0.0)


def test_a_vector_of_scale_1_is_the_model(family, same_bits, tmp_path) -> None:
    same_bits(merge.vectors(family["base"], {family["a"]: 1}, tmp_path / "out"), family["a"])


def test_a_vector_of_scale_0_is_the_base(family, same_bits, tmp_path) -> None:
    same_bits(merge.vectors(family["base"], {family["a"]: 0}, tmp_path / "out"), family["base"])


def test_scales_that_add_up_to_1_leave_nothing_of_the_base(family, same_bits, tmp_path) -> None:
    thirds = {family["a"]: 0.1, family["b"]: 0.2, family["chat"]: 0.7}
    same_bits(merge.vectors(family["base"], thirds, tmp_path / "sum"), merge.soup(thirds, tmp_path / "soup"))


def test_a_series_of_scale_1_is_the_second_model(family, same_bits, tmp_path) -> None:
    same_bits(merge.vectors(family["a"], {family["b"]: 1}, tmp_path / "out"), family["b"])


def test_a_soup_of_one_model_is_that_model(family, same_bits, tmp_path) -> None:
    same_bits(merge.soup([family["a"]], tmp_path / "out"), family["a"])


def test_a_soup_of_equal_models_is_that_model(family, same_bits, tmp_path) -> None:
    copy = tmp_path / "copy"
    merge.soup([family["a"]], copy)
    same_bits(merge.soup({family["a"]: 3, copy: 0.7}, tmp_path / "out"), family["a"])


@pytest.mark.parametrize(("scale", "end"), [(0.0, "base"), (1.0, "a")])
def test_the_ends_of_an_interpolation_are_exact(family, same_bits, tmp_path, scale, end) -> None:
    scales = dict.fromkeys(ALL, scale)
    merge.interpolate(family["a"], family["base"], tmp_path / "out", first=1, last=1, scale=scales)
    same_bits(tmp_path / "out", family[end])


def test_reverting_every_layer_group_gives_the_base(family, same_bits, tmp_path) -> None:
    rest = {group: 0.0 for group in ALL if group != "middle"}
    merge.revert(family["a"], family["base"], tmp_path / "reverted", first=1, last=1)
    merge.interpolate(tmp_path / "reverted", family["base"], tmp_path / "out", first=1, last=1, scale=rest)
    same_bits(tmp_path / "out", family["base"])


def test_reverting_changes_the_middle_layers_alone(family, tensors, tmp_path) -> None:
    merge.revert(family["a"], family["base"], tmp_path / "out", first=1, last=2)
    out, base, adapted = tensors(tmp_path / "out"), tensors(family["base"]), tensors(family["a"])
    for name, tensor in out.items():
        middle = layer_group(name, LayerRange(1, 2, 4)) is LayerGroup.MIDDLE
        assert torch.equal(tensor, (base if middle else adapted)[name]), name


def test_an_instruct_model_and_no_vector_is_the_instruct_model(family, same_bits, tmp_path) -> None:
    out = merge.instruct(family["a"], family["base"], family["chat"], tmp_path / "out", scale=0)
    same_bits(out, family["chat"])


def test_ties_and_dare_at_scale_0_are_the_base(family, same_bits, tmp_path) -> None:
    both = {family["a"]: 0.6, family["b"]: 0.4}
    same_bits(merge.ties(family["base"], both, tmp_path / "ties", scale=0), family["base"])
    same_bits(merge.dare(family["base"], both, tmp_path / "dare", scale=0), family["base"])


def test_dare_that_drops_nothing_adds_vectors(family, same_bits, tmp_path) -> None:
    both = {family["a"]: 0.5, family["b"]: 0.25}
    dare = merge.dare(family["base"], both, tmp_path / "dare", density=1, dtype="float32")
    vectors = merge.vectors(family["base"], both, tmp_path / "vectors", dtype="float32")
    for name, tensor in _float64(dare).items():
        assert torch.allclose(tensor, _float64(vectors)[name], rtol=0, atol=1e-6)


def _float64(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}


SMALLEST_UNIT = {"bfloat16": 2.0**-133, "float16": 2.0**-24, "float32": 2.0**-149}


def _within_half_a_unit(result: torch.Tensor, exact: torch.Tensor, weight: torch.Tensor, dtype: str) -> bool:
    """|error| <= half a unit in the last place of a type, plus 1e-6 of sum_i |c_i theta_i|."""
    unit = torch.exp2(torch.floor(torch.log2(exact.abs()))) * torch.finfo(getattr(torch, dtype)).eps
    return bool(((result - exact).abs() <= 0.5 * unit.clamp(min=SMALLEST_UNIT[dtype]) + 1e-6 * weight).all())


KINDS = [(name, tied, "bfloat16") for name in ("llama", "qwen2", "gemma3_text", "gemma3") for tied in (False, True)]


@pytest.mark.parametrize(
    ("architecture", "tied", "dtype"), [*KINDS, ("llama", False, "float16"), ("llama", False, "float32")]
)
def test_sums_are_rounded_once(make_family, tmp_path, architecture, tied, dtype) -> None:
    family = make_family(architecture, tied, getattr(torch, dtype))
    base, a, b, chat = (_float64(folder) for folder in family.values())
    merge.vectors(family["base"], {family["a"]: 0.7, family["b"]: -0.4}, tmp_path / "vectors")
    merge.soup({family["a"]: 3, family["b"]: 1}, tmp_path / "soup")
    merge.instruct(family["a"], family["base"], family["chat"], tmp_path / "chat", scale=0.7)
    scale = {"middle": 0.25, "embeddings": 0.5}
    merge.interpolate(family["a"], family["base"], tmp_path / "moved", first=1, last=1, scale=scale)
    results = {folder: _float64(tmp_path / folder) for folder in ("vectors", "soup", "chat", "moved")}
    for name in base:
        factor = scale.get(layer_group(name, LayerRange(1, 1, 4)), 1.0)
        for folder, coefficients in {
            "vectors": (0.7, 0.7, -0.4, 0),
            "soup": (0, 0.75, 0.25, 0),
            "chat": (-0.7, 0.7, 0, 1),
            "moved": (1 - factor, factor, 0, 0),
        }.items():
            terms = [c * theta[name] for c, theta in zip(coefficients, (base, a, b, chat), strict=True)]
            weight = sum(term.abs() for term in terms)
            assert _within_half_a_unit(results[folder][name], sum(terms), weight, dtype), (folder, name)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_ties_is_its_definition(family, tmp_path, density) -> None:
    weights = {"a": 0.5, "b": 0.375, "chat": 0.125}  # sums that are 0 are so in float32 too
    merge.ties(
        family["base"], {family[name]: w for name, w in weights.items()}, tmp_path / "out", density=density, scale=0.8
    )
    theta = {name: _float64(family[name]) for name in family}
    result = _float64(tmp_path / "out")
    for name, base in theta["base"].items():
        trimmed = []
        for model, weight in weights.items():
            tau = theta[model][name] - base
            magnitudes = tau.float().abs().flatten()  # the threshold is one of float32's magnitudes
            threshold = magnitudes.sort(descending=True).values[max(1, int(density * tau.numel())) - 1]
            trimmed.append(weight * torch.where(tau.float().abs() >= threshold, tau, 0))
        sign = torch.where(sum(trimmed) >= 0, 1.0, -1.0)
        agree = [tau.sign() == sign for tau in trimmed]
        share = sum(w * there for w, there in zip(weights.values(), agree, strict=True))
        total = sum(tau * there for tau, there in zip(trimmed, agree, strict=True))
        exact = base + 0.8 * torch.where(share > 0, total / share.clamp(min=1e-30), 0)
        assert _within_half_a_unit(result[name], exact, base.abs() + exact.abs(), "bfloat16"), name


def test_dare_keeps_each_weight_whole_or_not_at_all(family, tmp_path) -> None:
    """Out - base is tau * w / density, or 0, and it is not 0 in a share of `density` of all weights."""
    merge.dare(family["base"], {family["a"]: 0.5}, tmp_path / "out", density=0.3, seed=7, dtype="float32")
    base, adapted, out = (_float64(folder) for folder in (family["base"], family["a"], tmp_path / "out"))
    kept = weights = 0
    for name in base:
        tau = (adapted[name] - base[name]) * 0.5 / 0.3
        moved = out[name] - base[name]
        stays = moved.abs() < 1e-9
        assert torch.allclose(torch.where(stays, 0, tau), moved, rtol=0, atol=1e-6)
        kept, weights = kept + int((~stays).sum()), weights + int((tau != 0).sum())
    assert abs(kept / weights - 0.3) < 4 * (0.3 * 0.7 / weights) ** 0.5


def test_what_dare_drops_depends_on_seed_and_model_alone(family, tensors, tmp_path, monkeypatch) -> None:
    def dare(name: str, seed: int, chunk: int) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(operands, "CHUNK", chunk)
        both = {family["a"]: 0.5, family["b"]: 0.5}
        return tensors(merge.dare(family["base"], both, tmp_path / name, density=0.5, seed=seed))

    first, again, other = dare("first", 1, 2**17), dare("again", 1, 37), dare("other", 2, 2**17)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_shards_may_lie_differently_in_each_parent(family, same_bits, tmp_path) -> None:
    model = AutoModelForCausalLM.from_pretrained(family["a"], dtype="auto")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="30KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    AutoTokenizer.from_pretrained(family["a"]).save_pretrained(tmp_path / "sharded")
    pairs = {"one": family["a"], "many": tmp_path / "sharded"}
    for name, adapted in pairs.items():
        merge.vectors(family["base"], {adapted: 0.3, family["b"]: 0.3}, tmp_path / name)
        merge.revert(adapted, family["base"], tmp_path / f"{name}-reverted", first=1, last=1)
    same_bits(tmp_path / "one", tmp_path / "many")
    same_bits(tmp_path / "one-reverted", tmp_path / "many-reverted")
    index = json.loads((tmp_path / "many-reverted" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    AutoModelForCausalLM.from_pretrained(tmp_path / "many-reverted")


def test_a_type_that_is_asked_for_is_the_type_of_file_and_config(family, tensors, tmp_path) -> None:
    merge.soup([family["a"], family["b"]], tmp_path / "out", dtype="float32")
    assert {tensor.dtype for tensor in tensors(tmp_path / "out").values()} == {torch.float32}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"


def test_a_tied_head_stays_tied(make_family, tensors, tmp_path) -> None:
    family = make_family(tied=True)
    merge.vectors(family["base"], {family["a"]: 0.5}, tmp_path / "out")
    assert "lm_head.weight" not in tensors(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_chat_template_and_settings_are_the_instruct_models(family, tmp_path) -> None:
    (family["chat"] / "chat_template.jinja").write_text("{{ messages[0].content }}")
    settings = json.loads((family["chat"] / "generation_config.json").read_text()) | {"temperature": 0.6}
    (family["chat"] / "generation_config.json").write_text(json.dumps(settings))
    merge.instruct(family["a"], family["base"], family["chat"], tmp_path / "out", scale=0.5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Habari"}], tokenize=False) == "Habari"
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["temperature"] == 0.6


def test_the_record_names_every_parent(family, tmp_path) -> None:
    merge.vectors(family["base"], {family["a"]: 0.5, family["b"]: 0.3}, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "lingraft.json").read_text())
    assert record["merge"]["method"] == "vectors"
    assert [(parent["role"], parent.get("weight")) for parent in record["parents"]] == [
        ("base", None),
        ("adapted", 0.5),
        ("adapted", 0.3),
    ]
    assert len({parent["fingerprint"] for parent in record["parents"]}) == 3
    assert record["base"]["fingerprint"] == record["parents"][0]["fingerprint"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base + sum_i weight_i (adapted_i - base)" in card
    assert f"| {family['b'].name} |" in card


def test_the_same_merge_again_is_kept_and_another_replaces_it(family, same_bits, tmp_path) -> None:
    out = merge.vectors(family["base"], {family["a"]: 1}, tmp_path / "out")
    before = (out / "model.safetensors").stat().st_ino
    merge.vectors(family["base"], {family["a"]: 1}, out)
    assert (out / "model.safetensors").stat().st_ino == before
    same_bits(merge.vectors(family["base"], {family["b"]: 1}, out), family["b"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_merging_imports_neither_torch_nor_transformers(family, tmp_path) -> None:
    code = (
        "import sys, lingraft; lingraft.merge.vectors(sys.argv[1], {sys.argv[2]: 0.5}, sys.argv[3]);"
        "print(*[name for name in ('torch', 'transformers', 'peft', 'pydantic') if name in sys.modules])"
    )
    arguments = [family["base"], family["a"], tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_decimal_coefficients_cancel() -> None:
    from lingraft.merging.expression import tidy

    assert 1 - 0.9 - 0.1 != 0
    assert tidy(1 - 0.9 - 0.1) == 0


def test_rounding_to_bfloat16_is_torchs() -> None:
    from lingraft.checkpoints.dtypes import narrow, widen

    numbers = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    numbers = numbers[np.abs(numbers) <= 3.38e38]
    ties = (np.arange(2**15, dtype=np.uint32) << 16 | 0x8000).view(np.float32)  # half way between two
    numbers = np.concatenate([numbers, ties[np.abs(ties) <= 3.38e38]])
    bits = narrow(numbers, "BF16", np.empty(len(numbers), np.uint16), np.empty(len(numbers), np.uint32))
    expected = torch.from_numpy(numbers).bfloat16()
    assert np.array_equal(bits, expected.view(torch.int16).numpy().view(np.uint16))
    assert np.array_equal(widen(bits, np.empty(len(bits), np.float32)), expected.float().numpy())


def test_all_cores_are_used() -> None:
    from lingraft.merging.combine import _num_cores

    assert _num_cores() == len(os.sched_getaffinity(0))
