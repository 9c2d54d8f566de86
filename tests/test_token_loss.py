"""A numeric kernel against the naive version in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from lingraft.architectures import ARCHITECTURES
from lingraft.nn import chunked_cross_entropy as token_loss
from lingraft.nn.chunked_cross_entropy import IGNORED, per_token_loss, token_losses

pytestmark = pytest.mark.integration

VOCABULARY = 258


def naive(model, hidden, targets, softcap=None):
    """The loss of each target over all logits at once, in float64."""
    logits = hidden.double() @ model.get_output_embeddings().weight.double().T
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    return cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")


@pytest.fixture
def tokens():
    torch.manual_seed(1)
    hidden, targets = torch.randn(50, 32), torch.randint(0, VOCABULARY, (50,))
    targets[::7] = IGNORED
    return hidden, targets


@pytest.fixture(params=[3, 49, 50], ids=lambda tokens: f"chunks of {tokens}")
def chunked(request, monkeypatch):
    monkeypatch.setattr(token_loss, "LOGITS_PER_CHUNK", request.param * VOCABULARY)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_are_those_of_the_models_own_logits(make_model, architecture) -> None:
    """Whatever the architecture does to logits: a cap, a factor, a divisor."""
    model, ids = make_model(architecture), torch.arange(40).mul(7919).remainder(VOCABULARY).view(2, 20)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].double()
        expected = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(2, -1)
        with per_token_loss(model):
            losses = model(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_losses_and_gradients_are_those_of_all_logits_in_float64(make_model, tokens, chunked, tied, softcap) -> None:
    hidden, targets = tokens
    hidden.requires_grad_()
    model, reference = make_model("gemma3_text", tied), make_model("gemma3_text", tied)
    model.config.final_logit_softcapping = softcap
    weights = torch.randn(50, dtype=torch.float64)

    losses = token_losses(model, hidden, targets)
    gradient = torch.autograd.grad((losses * weights).sum(), [hidden, model.get_output_embeddings().weight])
    expected = naive(reference, hidden, targets, softcap)
    wanted = torch.autograd.grad((expected * weights).sum(), [hidden, reference.get_output_embeddings().weight])

    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    for got, want in zip(gradient, wanted, strict=True):
        torch.testing.assert_close(got.double(), want.double(), rtol=1e-4, atol=1e-5)


def test_ignored_targets_cost_nothing(make_model, tokens, chunked) -> None:
    hidden, targets = tokens
    losses = token_losses(make_model(), hidden, targets)
    assert torch.equal(losses == 0, targets == IGNORED)


def test_no_more_logits_than_a_chunk_exist_at_a_time(make_model, tokens, monkeypatch) -> None:
    monkeypatch.setattr(token_loss, "LOGITS_PER_CHUNK", 10 * VOCABULARY)
    model, sizes = make_model(), []
    model.lm_head.register_forward_hook(lambda module, inputs, output: sizes.append(output.numel()))
    hidden, targets = tokens
    token_losses(model, hidden.requires_grad_(), targets).sum().backward()
    assert max(sizes) == 10 * VOCABULARY
    assert len(sizes) == 10  # each of five chunks, and again in the backward pass


def test_a_model_that_returns_losses_returns_logits_again_afterwards(make_model) -> None:
    model, ids = make_model(), torch.arange(20)[None]
    logits = model(ids).logits
    with per_token_loss(model):
        losses = model(input_ids=ids, labels=ids).loss
    assert losses.shape == (1, 19)
    torch.testing.assert_close(losses[0], cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none"))
    assert torch.equal(model(ids).logits, logits)
