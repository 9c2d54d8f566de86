"""Averages of weights while training: what each step makes of them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import lingraft
from lingraft.errors import RecipeError
from lingraft.penalties.trained import FullRank
from lingraft.recipe import load_recipe
from lingraft.training.averaging import Averages, is_due

pytestmark = pytest.mark.integration


def at(step: int, steps: int = 8) -> SimpleNamespace:
    """The state of the Trainer in its step `step`, counted from 1."""
    return SimpleNamespace(global_step=step - 1, max_steps=steps)


def test_the_average_is_restored_at_the_end() -> None:
    weight = nn.Parameter(torch.zeros(3))
    averages = Averages({"w": weight}, ema=0.5)
    averages.on_train_begin(None, at(1), None)
    for step, value in enumerate((8.0, 4.0), start=1):
        weight.data.fill_(value)
        averages.on_optimizer_step(None, at(step), None)
    averages.restore()
    assert weight.tolist() == [4.0] * 3  # 0.5 (0.5 0 + 0.5 8) + 0.5 4


def test_the_weights_are_pulled_to_where_they_started() -> None:
    weight, start = nn.Parameter(torch.full((3,), 6.0)), torch.full((3,), 2.0, dtype=torch.bfloat16)
    averages = Averages({"w": weight}, [FullRank("w", weight, start)], every=0.25, beta=0.25)
    averages.on_train_begin(None, at(1), None)
    seen = []
    for step in (1, 2, 3, 4):
        averages.on_optimizer_step(None, at(step), None)
        seen.append(weight[0].item())
    assert seen == [6.0, 5.0, 5.0, 4.25]


@pytest.mark.parametrize(("steps", "every", "due"), [(10, 0.5, [5, 10]), (7, 0.5, [4, 7]), (3, 0.1, [1, 2, 3])])
def test_a_pull_comes_after_each_share_of_the_steps(steps, every, due) -> None:
    assert [step for step in range(1, steps + 1) if is_due(step, steps, every)] == due


def test_a_run_exports_averages(recipe, tmp_path) -> None:
    recipe |= {"method": {"name": "full"}, "averaging": {"ema": 0.9, "pull": {"every": 0.5, "beta": 0.5}}}
    lingraft.run(recipe, tmp_path / "run")
    origin = json.loads((tmp_path / "run/model/lingraft.json").read_text())
    assert origin["averaging"] == {"ema": 0.9, "pull": {"every": 0.5, "beta": 0.5}}
    assert "averaging ema 0.9" in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"averaging": {}}, "averaging: give ema, or pull, or both"),
        ({"averaging": {"ema": 1.0}}, "averaging.ema: should be less than 1"),
        ({"averaging": {"emma": 0.9}}, r"averaging.emma: unknown key \(did you mean 'ema'\?\)"),
        ({"averaging": {"ema": 0.9}, "early_stopping": {}}, "averaging.ema: early_stopping exports the weights"),
        (
            {"averaging": {"pull": {"every": 0.1, "beta": 0.5}}, "method": {"name": "adapters"}},
            "averaging.pull: 'adapters' trains no parameter of the base",
        ),
    ],
)
def test_what_cannot_be_is_refused(recipe, settings, message) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe({**recipe, **settings})
