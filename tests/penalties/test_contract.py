"""The laws that every penalty keeps; a new penalty adds a row to PENALTIES_UNDER_TEST."""

from __future__ import annotations

import json

import pytest
import torch

from lingraft import run
from lingraft.errors import RecipeError, SelectionError
from lingraft.methods import METHODS
from lingraft.penalties import PENALTIES
from lingraft.recipe import load_recipe
from one_step import penalty_context

pytestmark = pytest.mark.integration

PENALTIES_UNDER_TEST = {
    "l2sp": {"first": 1, "last": 1, "weight": {"middle": 0.7, "first": 0.2}},
    "ewc": {"weight": 3.0, "num_blocks": 4},
}
METHODS_BESIDE = {
    "full": {"name": "full"},
    "freeze": {"name": "freeze", "first": 1, "last": 2},
    "lora": {"name": "lora", "rank": 2, "dropout": 0.1},
    "layra": {"name": "layra", "first": 2, "last": 1, "rank": 2},
}

every_penalty = pytest.mark.parametrize("name", PENALTIES_UNDER_TEST)
every_method = pytest.mark.parametrize("method", METHODS_BESIDE.values(), ids=METHODS_BESIDE)


@pytest.fixture
def start(tmp_path, make_model):
    """The folder that `adapt` starts from, in float32."""
    make_model().save_pretrained(tmp_path / "start")
    return tmp_path / "start"


@pytest.fixture
def adapt(make_model):
    return lambda method: METHODS[method["name"]](**method).apply(make_model())


def prepare(name, adaptation, start):
    return PENALTIES[name](**PENALTIES_UNDER_TEST[name]).prepare(penalty_context(adaptation, start))


def trained(adaptation) -> list[torch.nn.Parameter]:
    return [adaptation.model.get_parameter(name) for name in adaptation.trainable]


def test_every_penalty_has_a_row_and_its_key_is_its_name() -> None:
    assert {name: penalty.name for name, penalty in PENALTIES.items()} == {name: name for name in PENALTIES_UNDER_TEST}


def test_no_name_is_the_beginning_of_another_in_the_log() -> None:
    assert not any("_" in name for name in PENALTIES)


@every_penalty
@every_method
def test_it_is_nothing_at_the_base(adapt, start, name, method) -> None:
    adaptation = adapt(method)
    term = prepare(name, adaptation, start)
    term.add_gradients(3.0)
    assert set(term.values().values()) == {0.0}
    assert all(of.grad.abs().max() < 1e-6 for of in trained(adaptation) if of.grad is not None), "less than rounding"


@every_penalty
@every_method
def test_its_gradient_is_the_derivative_of_its_values(adapt, start, name, method) -> None:
    """Along a direction, by a central difference; the loss scale multiplies it."""
    adaptation = adapt(method)
    term = prepare(name, adaptation, start)
    adaptation.model.double()
    parameters, step = trained(adaptation), 1e-3
    torch.manual_seed(0)
    directions = [torch.randn_like(of) for of in parameters]

    def moved(by: float) -> float:
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=by)
        return sum(term.values().values())

    moved(0.1)
    for parameter in parameters:
        parameter.grad = None
    term.add_gradients(2.0)
    slope = sum(
        float((of.grad * by).sum()) for of, by in zip(parameters, directions, strict=True) if of.grad is not None
    )
    above, below = moved(step), moved(-2 * step)
    assert slope > 0
    assert slope == pytest.approx(2.0 * (above - below) / (2 * step), rel=1e-4)


@every_penalty
@every_method
def test_preparing_it_changes_neither_the_model_nor_the_random_numbers_of_training(adapt, start, name, method) -> None:
    adaptation = adapt(method)
    adaptation.model.train()

    def state() -> list:
        parameters = dict(adaptation.model.named_parameters())
        return [
            {of: (tensor.requires_grad, tensor.grad, tensor.dtype) for of, tensor in parameters.items()},
            [module.training for module in adaptation.model.modules()],
            adaptation.plain.generation_config.to_dict(),
            adaptation.plain.config.to_dict(),
            torch.get_rng_state().tolist(),
        ]

    before, weights = state(), {of: tensor.clone() for of, tensor in adaptation.model.state_dict().items()}
    prepare(name, adaptation, start)
    assert state() == before
    assert all(torch.equal(tensor, weights[of]) for of, tensor in adaptation.model.state_dict().items())


@every_penalty
def test_it_is_refused_where_no_parameter_of_the_base_trains(adapt, start, recipe, name) -> None:
    with pytest.raises(SelectionError, match="nothing to regularize"):
        prepare(name, adapt({"name": "adapters", "extra_parameters": 0.2}), start)
    recipe |= {"method": {"name": "adapters"}, "penalties": {name: PENALTIES_UNDER_TEST[name]}}
    with pytest.raises(RecipeError, match=f"penalties.{name}: 'adapters' trains no parameter of the base"):
        load_recipe(recipe)


@every_penalty
def test_a_run_logs_its_values_and_records_its_settings(recipe, tmp_path, name) -> None:
    recipe["penalties"] = {name: PENALTIES_UNDER_TEST[name]}
    run(recipe, tmp_path / "out")
    log = json.loads((tmp_path / "out/training.json").read_text())["log"]
    logged = {key for entry in log for key in entry if key.startswith(f"{name}_")}
    assert {f"{name}_{group}" for group in ("embeddings", "first", "last", "head")} <= logged
    assert log[0][f"{name}_head"] > 0
    record = json.loads((tmp_path / "out/lingraft.json").read_text())["penalties"]
    assert record[name].items() >= PENALTIES_UNDER_TEST[name].items()
    assert f"{PENALTIES[name].title} head" in (tmp_path / "out/report.html").read_text()
