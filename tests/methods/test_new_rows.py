"""Rows of new tokens train beside every method; those of old tokens stay as they are."""

from __future__ import annotations

import json

import pytest
import torch
from datasets import Dataset

import lingraft
from lingraft.methods import METHODS
from lingraft.methods.new_rows import train_new_rows
from lingraft.methods.parameter_counts import by_group, stack
from lingraft.training.arguments import training_arguments
from lingraft.training.batches import TrainingText
from lingraft.training.trainer import train

pytestmark = pytest.mark.integration

FIRST = 200
FROZEN = {
    "lora": {"rank": 2},
    "adapters": {"rank": 4},
    "silent-adapters": {"rank": 4},
    "freeze": {"first": 1, "last": 1},
}


def tables(model) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("method", FROZEN)
def test_new_rows_train_and_old_ones_stay_bit_for_bit(make_model, tmp_path, method, tied) -> None:
    model = make_model("llama", tied)
    before = [table.detach().clone() for table in tables(model)]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    chosen = METHODS[method](**FROZEN[method])
    adaptation = train_new_rows(chosen.apply(model), FIRST)
    counted = by_group(stack(sizes, adaptation, chosen.layers(4)))
    assert counted["embeddings"].in_full == (258 - FIRST) * 32

    torch.manual_seed(0)
    rows = {"input_ids": torch.randint(0, 258, (8, 16)).tolist(), "languages": [[0] * 16] * 8}
    text = TrainingText(Dataset.from_dict(rows), ["swh_Latn"], ["swh_Latn"], {})
    settings = {"learning_rate": 1e-2, "weight_decay": 0.5, "per_device_train_batch_size": 2, "eval_strategy": "no"}
    train(adaptation, text, training_arguments(settings, tmp_path, seed=0))
    for table, was in zip(tables(adaptation.plain), before, strict=True):
        assert torch.equal(table[:FIRST], was[:FIRST])
        assert not torch.equal(table[FIRST:], was[FIRST:])
    exported = adaptation.exports[next(iter(adaptation.exports))]()
    for table, trained in zip(tables(exported), tables(adaptation.plain), strict=True):
        assert torch.equal(table, trained)


@pytest.mark.parametrize("settings", [{"name": "full"}, {"name": "layra", "first": 1, "last": 1}])
def test_a_method_that_trains_all_rows_is_left_alone(make_model, settings) -> None:
    adaptation = METHODS[settings["name"]](**settings).apply(make_model())
    assert train_new_rows(adaptation, FIRST) is adaptation


def test_gates_are_measured_in_the_precision_of_training(recipe, tmp_path) -> None:
    """New rows are float32, the frozen base beside them is bfloat16."""
    recipe |= {"method": {"name": "neutral-residues", "rank": 4}, "vocabulary": {"new_tokens": 5}}
    recipe |= {"replay": {"self_generated": 0.2}, "training": {**recipe["training"], "bf16": True, "max_steps": 2}}
    lingraft.run(recipe, tmp_path / "run")
    record = json.loads((tmp_path / "run/training.json").read_text())
    assert set(record["gates"]) == {"swh_Latn", "eng_Latn", "spa_Latn"}
