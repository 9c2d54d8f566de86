"""Muon beside AdamW: matrices of layers move in all directions alike, all else as AdamW moves it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lingraft.training.arguments import check_arguments, training_arguments
from lingraft.training.graft_arguments import GraftArguments
from lingraft.training.graft_trainer import GraftTrainer
from lingraft.training.muon import Muon, muon

pytestmark = pytest.mark.integration

RATE = 1e-2


class Tiny(nn.Module):
    """A table, two matrices of layers and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(9, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 8)])


def optimizer_of(model: nn.Module, tmp_path, decay: float = 0.0) -> Muon:
    arguments = GraftArguments(str(tmp_path), learning_rate=RATE, weight_decay=decay, use_cpu=True)
    return muon(model, arguments, {name for name, _ in model.named_parameters() if name.endswith("weight")})


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()


def test_a_matrix_moves_in_all_directions_alike_and_by_the_root_mean_square_of_adamw(tmp_path) -> None:
    model = Tiny()
    before = copy.deepcopy(model)
    step(model, optimizer_of(model, tmp_path), 0)
    moved = (model.layers[0].weight - before.layers[0].weight).detach()
    sizes = torch.linalg.svdvals(moved) / (RATE * 0.2 * 16**0.5)
    assert sizes.min() > 0.5
    assert sizes.max() < 1.3
    assert moved.square().mean().sqrt() == pytest.approx(0.2 * RATE, rel=0.3)


def test_all_else_moves_as_adamw_moves_it(tmp_path) -> None:
    model = Tiny()
    other = copy.deepcopy(model)
    step(model, optimizer_of(model, tmp_path, decay=0.1), 0)
    rest = [other.embed_tokens.weight, *(layer.bias for layer in other.layers)]
    groups = [{"params": rest[:1], "weight_decay": 0.1}, {"params": rest[1:], "weight_decay": 0.0}]
    step(other, torch.optim.AdamW(groups, lr=RATE), 0)
    torch.testing.assert_close(model.embed_tokens.weight, other.embed_tokens.weight)
    torch.testing.assert_close(model.layers[0].bias, other.layers[0].bias)


def test_it_goes_on_from_its_state(tmp_path) -> None:
    model = Tiny()
    optimizer = optimizer_of(model, tmp_path)
    step(model, optimizer, 0)
    again = copy.deepcopy(model)
    resumed = optimizer_of(again, tmp_path)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer, 1)
    step(again, resumed, 1)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_a_scheduler_sets_the_rate_of_all(tmp_path) -> None:
    model = Tiny()
    optimizer = optimizer_of(model, tmp_path)
    before = copy.deepcopy(model)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    step(model, optimizer, 0)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before.get_parameter(name)), name


def test_matrices_alone(tmp_path) -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 4, bias=False)])})
    optimizer = optimizer_of(model, tmp_path)
    step(model, optimizer, 0)
    assert [group["is_matrix"] for group in optimizer.param_groups] == [True]


@pytest.mark.parametrize("schedule", ["polynomial", "cosine_with_min_lr", "warmup_stable_decay"])
def test_every_schedule_that_a_recipe_may_name_can_drive_it(schedule) -> None:
    kwargs = {"cosine_with_min_lr": {"min_lr": 1e-4}, "warmup_stable_decay": {"num_decay_steps": 2}}.get(schedule, {})
    check_arguments({"optim": "muon", "lr_scheduler_type": schedule, "lr_scheduler_kwargs": kwargs, "use_cpu": True})


def test_it_takes_no_arguments_of_its_own() -> None:
    with pytest.raises(ValueError, match="optim_args a=1: muon takes none"):
        check_arguments({"optim": "muon", "optim_args": "a=1", "use_cpu": True})


@pytest.mark.parametrize("optim", ["muon", "adamw_torch"])
def test_embeddings_have_a_rate_of_their_own(tmp_path, optim) -> None:
    arguments = training_arguments(
        {"optim": optim, "learning_rate": RATE, "embedding_learning_rate": RATE / 4}, tmp_path, 0
    )
    model = Tiny()
    optimizer = GraftTrainer(model, arguments, train_dataset=[{}], eval_dataset=[{}]).create_optimizer()
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    before = copy.deepcopy(model)
    step(model, optimizer, 0)
    moved = (model.embed_tokens.weight - before.embed_tokens.weight).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, RATE / 8), rtol=1e-2, atol=0)
    moved = (model.layers[0].bias - before.layers[0].bias).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, RATE / 2), rtol=1e-2, atol=0)
