"""What a penalty gets: how far weights of the base moved, a gradient's way back, and text that the base generates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lingraft.layer_groups import canonical_name
from lingraft.methods import METHODS
from one_step import penalty_context

pytestmark = pytest.mark.integration

METHOD = {"first": 2, "last": 1, "rank": 2, "dropout": 0.1}


@pytest.fixture
def context(make_model, tmp_path):
    """LayRA, embeddings and head in full; what trains moved."""
    make_model().save_pretrained(tmp_path)
    adaptation = METHODS["layra"](**METHOD).apply(make_model())
    with torch.no_grad():
        for name in adaptation.trainable:
            parameter = adaptation.model.get_parameter(name)
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return penalty_context(adaptation, tmp_path)


def test_weights_moved_as_far_as_the_folded_model_lies_from_the_base(context, tmp_path) -> None:
    moved = {canonical_name(of.name): of.moved() for of in context.trained()}
    base = {canonical_name(name): tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    folded = {canonical_name(n): of.detach() for n, of in context.adaptation.exports["plain"]().named_parameters()}
    assert moved.keys() == {name for name in folded if not torch.equal(folded[name], base[name])}
    for name, of in moved.items():
        torch.testing.assert_close(of, folded[name] - base[name], atol=1e-6, rtol=0)


def test_a_gradient_goes_back_as_autograd_takes_it(context) -> None:
    for of in context.low_rank():
        down, up, scaling = of.factors
        gradient = torch.randn_like(of.moved())
        expected = torch.autograd.grad((scaling * (up @ down) * gradient).sum(), (up, down))
        of.add_gradient(gradient)
        torch.testing.assert_close((up.grad, down.grad), expected)


def test_text_of_the_base_is_told_by_seed_and_number_and_leaves_training_as_it_was(context) -> None:
    context.model.train()
    state = torch.get_rng_state()
    first, again, other = (context.self_generated(3, number) for number in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, replace(context, seed=1).self_generated(3, 0))
    assert first.shape == (3, context.max_length)
    assert set(first[:, 0].tolist()) == {256}
    assert torch.equal(torch.get_rng_state(), state)
    assert context.model.training


def test_the_base_generates_without_dropout(make_model, tmp_path) -> None:
    """A model that trains drops out; the same text as from one that does not is drawn."""
    texts = []
    for training in (True, False):
        adaptation = METHODS["full"]().apply(make_model(attention_dropout=0.9))
        adaptation.model.train(training)
        texts.append(penalty_context(adaptation, tmp_path).self_generated(8, 0))
    assert torch.equal(*texts)


def test_text_of_the_base_is_drawn_in_mixed_precision_where_frozen_weights_are_bf16(make_model, tmp_path) -> None:
    adaptation = METHODS["layra"](**METHOD).apply(make_model().to(torch.bfloat16))
    mixed = replace(penalty_context(adaptation, tmp_path), autocast=torch.bfloat16)
    assert mixed.self_generated(2, 0).shape == (2, mixed.max_length)
