from __future__ import annotations

import pytest
import torch
from datasets import Dataset

from lingraft.evaluation.gate_activations import gate_activity
from lingraft.methods import METHODS

pytestmark = pytest.mark.integration

ROWS = {"swh_Latn": [[1, 2, 3, 4]], "eng_Latn": [[5, 6, 7, 8, 9], [10, 11]]}
BLOCKS = {code: Dataset.from_dict({"input_ids": rows}) for code, rows in ROWS.items()}


@pytest.mark.parametrize("gate", ["relu", "sigmoid"])
def test_it_is_the_mean_gate_over_tokens_of_each_layer(make_model, gate) -> None:
    adaptation = METHODS["neutral-residues"](rank=4, gate=gate).apply(make_model())
    found = gate_activity(adaptation.plain, BLOCKS)
    layer = adaptation.plain.model.layers[0]
    inputs = []
    layer.mlp.register_forward_hook(lambda module, given, output: inputs.append(given[0]))
    with torch.no_grad():
        for row in ROWS["eng_Latn"]:
            adaptation.plain(torch.tensor([row]))
        adapter = layer.mlp.adapter
        gates = torch.cat([adapter.gates(adapter.block_gate(x)).flatten() for x in inputs])
    assert found.keys() == ROWS.keys()
    assert {len(of) for of in found.values()} == {4}
    assert found["eng_Latn"][0] == pytest.approx(float(gates.mean()))


def test_a_model_without_gates_has_no_activity(make_model) -> None:
    assert gate_activity(make_model(), BLOCKS) == {}
    assert gate_activity(METHODS["adapters"](rank=4).apply(make_model()).plain, BLOCKS) == {}


def test_no_hook_stays(make_model) -> None:
    plain = METHODS["neutral-residues"](rank=4).apply(make_model()).plain
    gate_activity(plain, BLOCKS)
    assert not any(module._forward_hooks for module in plain.modules())
