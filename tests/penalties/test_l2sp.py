"""L2-SP is the L2 term of autograd: clipped with the loss, over micro-batches and processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

import one_step
from lingraft.layer_groups import LayerRange, layer_group, plain_name
from lingraft.methods import METHODS
from lingraft.penalties.l2sp import L2SP
from lingraft.training.trainer import LanguageTrainer
from one_step import assert_equal, penalty_context

pytestmark = pytest.mark.integration

PULL = {"first": 1, "last": 1, "weight": {"middle": 0.7, "first": 0.2, "embeddings": 0.4, "head": 0.1}}
ADAPTED = {
    "full": {"name": "full"},
    "freeze": {"name": "freeze", "first": 1, "last": 2},
    "lora": {"name": "lora", "rank": 2, "dropout": 0.0},
    "layra": {"name": "layra", "first": 2, "last": 1, "rank": 2, "dropout": 0.0},
}
CLIP = 0.5


@pytest.fixture
def base(tmp_path) -> Path:
    """What `one_step.adapted` starts from, in bf16: theta_0 is what the file holds."""
    model = one_step.plain_model().to(torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def settings(method: dict, base: Path, **training) -> dict:
    return {
        "method": method,
        "penalties": {"l2sp": PULL},
        "base": str(base),
        "training": {"max_grad_norm": CLIP, **training},
    }


def merged_weights(adaptation) -> dict[str, torch.Tensor]:
    """The weights that the trained model would have, as functions of what trains."""
    merged = {}
    parameters = dict(adaptation.model.named_parameters())
    for name, parameter in parameters.items():
        if ".lora_A" in name:
            up, layer = parameters[name.replace("lora_A", "lora_B")], name.split(".lora_A")[0]
            scaling = adaptation.model.get_submodule(layer).scaling["default"]
            merged[plain_name(name)] = parameters[f"{layer}.base_layer.weight"].detach() + scaling * up @ parameter
        elif parameter.requires_grad and ".lora_B" not in name:
            merged[plain_name(name)] = parameter
    return merged


def naive(method: dict, base: Path) -> dict[str, torch.Tensor]:
    """Loss + sum_l lambda_l |theta_l - theta_l,0|^2 by autograd in float64, then clipped."""
    adaptation = one_step.adapted({"method": method}, double=True)
    adaptation.model.train()
    rows = list(one_step.blocks())
    predicted = sum(len(row["input_ids"]) - 1 for row in rows)
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        made = adaptation.model(input_ids=ids).logits
        (cross_entropy(made[0, :-1], ids[0, 1:], reduction="sum") / predicted).backward()
    start = {name: tensor.double() for name, tensor in load_file(base / "model.safetensors").items()}
    pull, layers = L2SP(**PULL), LayerRange(1, 1, 4)
    for name, weight in merged_weights(adaptation).items():
        (pull.of(layer_group(name, layers)) * (weight - start[name]).square().sum()).backward()
    parameters = [adaptation.model.get_parameter(name) for name in adaptation.trainable]
    assert torch.nn.utils.clip_grad_norm_(parameters, CLIP) > 2 * CLIP, "clipping is to be active"
    return {name: adaptation.model.get_parameter(name).grad.float() for name in adaptation.trainable}


@pytest.mark.parametrize("method", ADAPTED.values(), ids=ADAPTED)
def test_it_is_autograds_l2_clipped_with_the_loss_over_four_micro_batches(method, base, tmp_path) -> None:
    got = one_step.gradients_of_a_step(settings(method, base, gradient_accumulation_steps=4), tmp_path)
    assert_equal(got, naive(method, base))


def test_it_is_the_same_in_two_processes(base, tmp_path) -> None:
    given = settings(ADAPTED["full"], base, gradient_accumulation_steps=2)
    assert_equal(one_step.gradients_of_two_processes(given, tmp_path), naive(ADAPTED["full"], base))


def test_it_joins_where_nothing_is_clipped_too(base, tmp_path) -> None:
    with_it = one_step.gradients_of_a_step(settings(ADAPTED["full"], base, max_grad_norm=0), tmp_path / "with")
    weight = dict.fromkeys(("first", "middle", "last", "embeddings", "head", "final_norm"), 0.0)
    nothing = settings(ADAPTED["full"], base, max_grad_norm=0)
    nothing["penalties"] = {"l2sp": {"weight": weight, "first": 1, "last": 1}}
    without = one_step.gradients_of_a_step(nothing, tmp_path / "without")
    assert all(not torch.equal(with_it[name], without[name]) for name in without if name != "log")


@pytest.mark.parametrize("rank", [None, 2, 16, 32])
def test_its_value_is_that_of_the_merged_weights(make_model, tmp_path, rank) -> None:
    """Also where a LoRA factor has the shape of a linear: k_proj is (16, 32)."""
    make_model().save_pretrained(tmp_path)
    name = "layra" if rank else "full"
    method = {"name": "layra", "first": 2, "last": 1, "rank": rank} if rank else {"name": "full"}
    adaptation = METHODS[name](**method).apply(make_model())
    pull = L2SP(**PULL)
    prepared = pull.prepare(penalty_context(adaptation, tmp_path))
    assert sum(prepared.values().values()) == 0
    with torch.no_grad():
        for trained in adaptation.trainable:
            adaptation.model.get_parameter(trained).add_(0.05)
    values = prepared.values()
    merged, base = adaptation.exports["plain"](), dict(make_model().named_parameters())
    expected: dict[str, float] = {}
    for parameter, weight in merged.named_parameters():
        group = layer_group(parameter, LayerRange(1, 1, 4))
        moved = float((weight.detach() - base[parameter]).double().square().sum())
        expected[f"l2sp_{group}"] = expected.get(f"l2sp_{group}", 0.0) + pull.of(group) * moved
    assert values == {name: pytest.approx(expected[name], rel=1e-3) for name in values}
    assert all(value == 0 for name, value in expected.items() if name not in values)


def test_the_reference_is_the_file_and_no_copy(make_model, tmp_path) -> None:
    """bf16 as on disk, mapped: neither float32 nor memory of its own."""
    make_model().to(torch.bfloat16).save_pretrained(tmp_path)
    adaptation = METHODS["full"]().apply(make_model())
    prepared = L2SP(first=1, last=1).prepare(penalty_context(adaptation, tmp_path))
    starts = [start for term in prepared.terms for _, start in term.pairs]
    assert {start.dtype for start in starts} == {torch.bfloat16}
    spans = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(tmp_path / "model.safetensors"))
    ]
    assert all(any(low <= start.data_ptr() < high for low, high in spans) for start in starts)


def test_what_fp16_scales_the_loss_by_scales_the_pull_too(base, tmp_path, monkeypatch) -> None:
    compute_loss = LanguageTrainer.compute_loss
    plain = one_step.gradients_of_a_step(settings(ADAPTED["full"], base, max_grad_norm=0), tmp_path / "plain")
    monkeypatch.setattr(LanguageTrainer, "loss_scale", 8.0)
    monkeypatch.setattr(LanguageTrainer, "compute_loss", lambda *args, **named: 8 * compute_loss(*args, **named))
    scaled = one_step.gradients_of_a_step(settings(ADAPTED["full"], base, max_grad_norm=0), tmp_path / "scaled")
    assert_equal(
        {name: gradient / 8 for name, gradient in scaled.items()}, {n: g for n, g in plain.items() if n != "log"}
    )
