"""How much of a trained vector to keep within a limit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import write_texts
from lingraft import run
from lingraft.checkpoints.mmap_weights import MappedWeights
from lingraft.checkpoints.read import read_model
from lingraft.layer_groups import LayerGroup, LayerRange
from lingraft.merging.scale_selection import Interpolated, Point, maximize_learning, point

pytestmark = pytest.mark.integration

GROUPS = [LayerGroup.EMBEDDINGS, LayerGroup.FIRST, LayerGroup.MIDDLE, LayerGroup.LAST]


def world(teaches: dict, costs: dict):
    """Learning and forgetting that add up over groups: forgetting with the square of the factor."""

    def measure(scales) -> Point:
        learning = sum(teaches[group] * scale for group, scale in scales.items())
        forgetting = sum(costs[group] * scale**2 for group, scale in scales.items())
        return Point(dict(scales), learning, forgetting, forgetting)

    return measure


def test_all_of_it_is_kept_where_that_is_within_the_limit() -> None:
    best, seen = maximize_learning(0.5, GROUPS, world(dict.fromkeys(GROUPS, 0.1), dict.fromkeys(GROUPS, 0.1)))
    assert best.scales == dict.fromkeys(GROUPS, 1.0)
    assert len(seen) == 10


def test_one_factor_for_all_comes_near_the_limit_from_below() -> None:
    best, _ = maximize_learning(0.1, GROUPS, world(dict.fromkeys(GROUPS, 0.1), dict.fromkeys(GROUPS, 0.1)))
    assert 0.09 < best.at_most <= 0.1


def test_a_group_that_only_costs_is_left_at_the_base() -> None:
    teaches, costs = dict.fromkeys(GROUPS, 0.1), dict.fromkeys(GROUPS, 0.01)
    teaches[LayerGroup.MIDDLE], costs[LayerGroup.MIDDLE] = 0.001, 0.5
    best, _ = maximize_learning(0.02, GROUPS, world(teaches, costs))
    assert best.scales[LayerGroup.MIDDLE] == 0
    assert best.scales[LayerGroup.FIRST] > 0.7
    assert best.at_most <= 0.02


def test_a_peak_within_the_limit_is_better_than_its_edge() -> None:
    def measure(scales) -> Point:
        scale = sum(scales.values()) / len(scales)
        return Point(dict(scales), scale - scale**2, scale / 10, scale / 10)

    best, _ = maximize_learning(0.085, GROUPS, measure)
    assert best.learning == pytest.approx(0.25, abs=0.01)


def test_where_less_than_nothing_is_learned_the_base_stays() -> None:
    best, _ = maximize_learning(1.0, GROUPS, world(dict.fromkeys(GROUPS, -0.1), dict.fromkeys(GROUPS, 0.0)))
    assert best.scales == dict.fromkeys(GROUPS, 0.0)


def test_a_limit_that_nothing_keeps_leaves_the_base() -> None:
    best, _ = maximize_learning(1e-9, GROUPS, world(dict.fromkeys(GROUPS, 0.1), dict.fromkeys(GROUPS, 10)))
    assert best.scales == dict.fromkeys(GROUPS, 0.0)
    assert best.learning == best.forgetting == 0


def test_a_point_has_the_figures_of_results_and_an_upper_end() -> None:
    random = np.random.default_rng(1)
    before = {code: random.uniform(50, 60, 30) for code in ("new", "old", "other")}
    after = {"new": before["new"] * 0.5, "old": before["old"] * random.uniform(1, 1.1, 30), "other": before["other"]}
    of = point({}, before, after, ["new"], ["old", "other"])
    assert of.learning == pytest.approx(0.5)
    assert of.forgetting == pytest.approx((after["old"].sum() / before["old"].sum() - 1) / 2)
    assert of.forgetting < of.at_most < 2 * of.forgetting


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_live_model_lies_between_base_and_adapted_group_by_group(make_model, tmp_path, dtype) -> None:
    """Wherever it was before: the mapped weights stay as they are."""
    make_model().to(dtype).save_pretrained(tmp_path / "base")
    moved = make_model()
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(torch.randn_like(parameter))
    moved.save_pretrained(tmp_path / "moved")
    ends = MappedWeights(tmp_path / "base"), MappedWeights(tmp_path / "moved")
    between = Interpolated(read_model(tmp_path / "base", torch.float32), *ends, LayerRange(1, 1, 4))
    between.go_to(dict.fromkeys(LayerGroup, 0.7))
    between.go_to({LayerGroup.FIRST: 0.25, LayerGroup.HEAD: 1.0})
    start = dict(read_model(tmp_path / "base", torch.float32).named_parameters())
    end = dict(moved.named_parameters())
    for name, parameter in between.model.named_parameters():
        share = 0.25 if ".layers.0." in name else 1.0 if name == "lm_head.weight" else 0.0
        torch.testing.assert_close(parameter, start[name] + share * (end[name] - start[name]))


def test_parts_outside_the_language_model_are_left_alone(make_model, tmp_path) -> None:
    """Files and live models name the tensors of a vision tower differently."""
    model = make_model("gemma3")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    renamed = {name.replace("vision_tower.", "vision_tower.vision_model."): of for name, of in weights.items()}
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ends = MappedWeights(tmp_path), MappedWeights(tmp_path)
    before = {name: of.clone() for name, of in model.named_parameters()}
    Interpolated(model, *ends, LayerRange(1, 1, 4)).go_to(dict.fromkeys(LayerGroup, 0.5))
    assert all(torch.equal(of, before[name]) for name, of in model.named_parameters())


def test_a_run_keeps_its_limit_and_says_what_it_looked_at(recipe, tmp_path) -> None:
    write_texts(tmp_path)  # more of it, to decide on a part and measure the rest
    recipe["corpus"][0]["tokens"] = 4000
    recipe["training"] |= {"learning_rate": 0.02, "num_train_epochs": 3}
    recipe["method"] = {"name": "full"}
    free = run(recipe, tmp_path / "free")
    limit = free["forgetting"] / 4
    assert limit > 0
    bound = run({**recipe, "merge": [{"max_forgetting": limit}, {"scale": 1.0}]}, tmp_path / "bound")
    selected = bound["max_forgetting"]
    assert selected["chosen"]["at_most"] <= limit
    assert len(selected["points"]) >= 10
    assert 0 < bound["learning"] < free["learning"]
    assert bound["forgetting"] <= limit
    assert json.loads((tmp_path / "bound/results.json").read_text())["max_forgetting"] == selected
