"""Looking at the loss while it trains stays a small part of training, whatever its length."""

from __future__ import annotations

import pytest

from lingraft.training.arguments import DEFAULT_ARGUMENTS
from lingraft.training.schedule import LEAST_BLOCKS, MOST_BLOCKS, num_evaluations, num_steps, validation_blocks


@pytest.mark.parametrize("rows", [10, 100, 1000, 10_000, 10**6])
@pytest.mark.parametrize("settings", [{}, {"num_train_epochs": 3}, {"eval_steps": 50}, {"max_steps": 200}], ids=str)
@pytest.mark.parametrize("num_languages", [1, 3, 12])
def test_validation_costs_at_most_a_tenth_of_training(rows, settings, num_languages) -> None:
    settings = {**DEFAULT_ARGUMENTS, **settings}
    steps = num_steps(settings, rows)
    blocks = validation_blocks(settings, steps, num_languages)
    cost = blocks * num_languages * num_evaluations(settings, steps) / (8 * steps)
    assert LEAST_BLOCKS <= blocks <= MOST_BLOCKS
    assert cost <= 0.1 or blocks == LEAST_BLOCKS


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"eval_steps": 0.1}, 10),
        ({"eval_steps": 30}, 3),
        ({"eval_steps": 0.3}, 3),
        ({"eval_strategy": "no"}, 0),
        ({"eval_strategy": "no", "eval_on_start": True}, 1),
        ({"eval_strategy": "epoch", "num_train_epochs": 2.5}, 3),
        ({"eval_steps": None, "logging_steps": 50}, 2),
    ],
    ids=str,
)
def test_evaluations_are_counted_as_the_trainer_makes_them(settings, count) -> None:
    assert num_evaluations({**DEFAULT_ARGUMENTS, **settings}, 100) == count
