"""The gradients that local losses add in backward are those of a naive sum in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import one_step
from lingraft.training.trainer import LanguageTrainer
from one_step import assert_equal

pytestmark = pytest.mark.integration

ALPHA = 3.0  # strong, so that a wrong local gradient shows
METHODS = {
    "relu, l1": {"gate": "relu", "loss": "l1"},
    "no gate, l1": {"gate": "none", "loss": "l1"},
    "sigmoid, ce": {"gate": "sigmoid", "loss": "ce"},
    "relu, both": {"gate": "relu", "loss": "l1+ce"},
}
WINDOWS = {
    "one micro-batch": {"per_device_train_batch_size": 8},
    "four micro-batches": {"gradient_accumulation_steps": 4},
    "checkpointing": {"gradient_accumulation_steps": 4, "gradient_checkpointing": True},
    "reentrant checkpointing": {
        "gradient_accumulation_steps": 4,
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    },
}


def settings(method: dict, training: dict) -> dict:
    return {
        "method": {"name": "neutral-residues", "rank": 6, "loss_weight": ALPHA, **method},
        "training": {"max_grad_norm": 0, **training},
    }


def naive(method: dict, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Autograd on the whole loss of all blocks, each its own batch, in float64, or under autocast in another type."""
    from lingraft.nn.gated_adapter import GatedAdapter

    adaptation = one_step.adapted(settings(method, {}), double=dtype == torch.float64)
    outputs, logits = [], []
    for module in adaptation.model.modules():
        if isinstance(module, GatedAdapter):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
            if module.block_gate is not None:
                module.block_gate.register_forward_hook(lambda module, inputs, output: logits.append(output))
    rows = list(one_step.blocks())
    num_all = sum(len(row["input_ids"]) for row in rows)
    num_original = sum(sum(row["languages"]) for row in rows)
    predicted = sum(len(row["input_ids"]) - 1 for row in rows)
    loss = torch.zeros((), dtype=torch.float64)
    for row in rows:
        outputs.clear()
        logits.clear()
        ids, is_old = torch.tensor([row["input_ids"]]), torch.tensor(row["languages"]).double()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            made = adaptation.model(input_ids=ids).logits.to(torch.float64)
        loss = loss + cross_entropy(made[0, :-1], ids[0, 1:], reduction="sum") / predicted
        for output in outputs if "l1" in method["loss"] else []:
            size = (output[0].double().abs().sum(-1) * is_old).sum() / output.shape[-1]
            loss = loss + ALPHA * size / num_original / len(outputs)
        for gate in logits if "ce" in method["loss"] else []:
            of_gate = binary_cross_entropy_with_logits(gate[0, :, 0].double(), 1 - is_old, reduction="sum")
            loss = loss + ALPHA * of_gate / num_all / len(logits)
    loss.backward()
    return {name: adaptation.model.get_parameter(name).grad.float() for name in adaptation.trainable}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_the_gradient_is_that_of_a_naive_sum_in_float64(method, window, tmp_path) -> None:
    assert_equal(one_step.gradients_of_a_step(settings(method, window), tmp_path), naive(method))


def test_in_bfloat16_it_errs_no_more_than_autograd_in_bfloat16(tmp_path) -> None:
    method = METHODS["relu, l1"]
    window = {"bf16": True, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    got = one_step.gradients_of_a_step(settings(method, window), tmp_path)
    exact, rounded = naive(method), naive(method, torch.bfloat16)

    def error(of: dict[str, torch.Tensor]) -> float:
        return float(torch.stack([(of[name] - exact[name]).norm() for name in exact]).norm())

    assert error(got) < 1.1 * error(rounded)


def test_the_local_loss_makes_a_difference_that_the_tests_above_would_see() -> None:
    with_it, without = naive(METHODS["relu, l1"]), naive({"gate": "relu", "loss": "none"})
    with pytest.raises(AssertionError):
        assert_equal(with_it, without, tolerance=0.05)


def test_two_processes_with_unequally_many_old_tokens_give_the_same_gradient(tmp_path) -> None:
    given = settings(METHODS["relu, both"], {"gradient_accumulation_steps": 2})
    assert_equal(one_step.gradients_of_two_processes(given, tmp_path), naive(METHODS["relu, both"]))


def test_the_value_is_logged_once_under_checkpointing(tmp_path) -> None:
    method = METHODS["relu, l1"]
    plain = one_step.gradients_of_a_step(settings(method, WINDOWS["four micro-batches"]), tmp_path / "plain")
    again = one_step.gradients_of_a_step(settings(method, WINDOWS["checkpointing"]), tmp_path / "again")
    assert plain["log"] > 0
    torch.testing.assert_close(plain["log"], again["log"])


def test_without_old_tokens_the_l1_loss_adds_nothing(tmp_path, monkeypatch) -> None:
    """A step may have none: p = 0 is legal."""
    blocks = one_step.blocks
    monkeypatch.setattr(
        one_step, "blocks", lambda: blocks().map(lambda row: {"languages": [0] * len(row["languages"])})
    )
    with_it = one_step.gradients_of_a_step(settings(METHODS["relu, l1"], {}), tmp_path / "with")
    without = one_step.gradients_of_a_step(settings({"gate": "relu", "loss": "none"}, {}), tmp_path / "without")
    for name in without.keys() - {"log"}:
        assert torch.equal(with_it[name], without[name])


def test_outside_of_a_step_nothing_is_added(tmp_path) -> None:
    """In generation and in validation no token is known, and the gradient is the language model's alone."""
    gradients = []
    for method in (METHODS["relu, both"], {"gate": "relu", "loss": "none"}):
        model = one_step.adapted(settings(method, {})).model
        model(input_ids=torch.arange(20)[None]).logits.sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_what_fp16_scales_the_loss_by_scales_the_local_loss_too(tmp_path, monkeypatch) -> None:
    """A scaler multiplies the loss before backward; all gradients are divided by it later."""
    compute_loss = LanguageTrainer.compute_loss
    monkeypatch.setattr(LanguageTrainer, "loss_scale", 8.0)
    monkeypatch.setattr(LanguageTrainer, "compute_loss", lambda *args, **named: 8 * compute_loss(*args, **named))
    got = one_step.gradients_of_a_step(settings(METHODS["relu, both"], WINDOWS["four micro-batches"]), tmp_path)
    expected = naive(METHODS["relu, both"])
    assert_equal({name: gradient / 8 for name, gradient in got.items()}, expected)
