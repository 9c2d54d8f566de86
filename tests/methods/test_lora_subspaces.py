"""LoRA factors that stay away from what the base needs."""

from __future__ import annotations

import pytest
import torch

from lingraft.errors import SelectionError
from lingraft.layer_groups import canonical_name
from lingraft.methods import METHODS, TextToFit
from lingraft.methods.lora_subspaces import _layers

pytestmark = pytest.mark.integration


def test_protected_triples_are_those_of_the_base_after_training(make_model) -> None:
    adaptation = METHODS["lora"](rank=2, protected=3, dropout=0.0).apply(make_model())
    trained = [adaptation.model.get_parameter(name) for name in adaptation.trainable]
    optimizer = torch.optim.AdamW(trained, lr=0.05)
    for seed in range(3):
        torch.manual_seed(seed)
        ids = torch.randint(0, 256, (2, 24))
        adaptation.plain(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        adaptation.after_step()
    base = {canonical_name(name): tensor for name, tensor in make_model().named_parameters()}
    merged = adaptation.exports["plain"]()
    moved = 0
    for name, weight in merged.named_parameters():
        if not name.endswith("proj.weight"):
            continue
        start = base[canonical_name(name)]
        found = torch.linalg.svd(start)
        for number in range(3):
            left, size, right = found.U[:, number], found.S[number], found.Vh[number]
            torch.testing.assert_close(weight @ right, size * left, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(left @ weight, size * right, atol=1e-5, rtol=1e-4)
        moved += int((weight - start).abs().max() > 1e-3)
    assert moved > 20


def test_a_null_space_start_sees_little_of_old_text(make_model) -> None:
    torch.manual_seed(0)
    blocks = torch.randint(0, 4, (16, 16))  # few tokens, so that inputs lie in few directions
    is_old = torch.ones_like(blocks, dtype=torch.bool)

    def seen(init: str) -> float:
        torch.manual_seed(1)
        adaptation = METHODS["lora"](rank=2, init=init).apply(make_model())
        adaptation.model.eval()
        if adaptation.fit is not None:
            with torch.autocast("cpu", torch.bfloat16):  # as in mixed precision
                adaptation.fit(TextToFit(blocks, is_old, ~is_old))
        outputs: list[torch.Tensor] = []
        (first, adapter), *_ = _layers(adaptation)
        first.lora_A[adapter].register_forward_hook(lambda module, inputs, output: outputs.append(output))
        with torch.no_grad():
            adaptation.plain(blocks)
        return float(outputs[0].norm())

    assert seen("null-space") < 1e-2 * seen("random")


def test_more_protected_triples_than_there_are_are_refused(make_model) -> None:
    with pytest.raises(SelectionError, match=r"protected=\d+ and rank=8: the smallest weight has \d+ singular triples"):
        METHODS["lora"](protected=999).apply(make_model())
