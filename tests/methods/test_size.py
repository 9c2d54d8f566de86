"""Ranks are solved from a share of the base's weights."""

from __future__ import annotations

import pytest
import transformers

from lingraft.checkpoints.read import empty_model
from lingraft.errors import SelectionError
from lingraft.methods import METHODS

pytestmark = pytest.mark.integration

GEMMA_2B = {
    "hidden_size": 2048,
    "num_hidden_layers": 18,
    "intermediate_size": 16384,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 256000,
}


@pytest.fixture
def gemma():
    return lambda: empty_model(transformers.GemmaConfig(**GEMMA_2B))


@pytest.mark.parametrize("name", ["neutral-residues", "adapters", "lora-ffn"])
def test_a_fifth_more_weights_on_gemma_2b(gemma, name) -> None:
    adaptation = METHODS[name]().apply(gemma())
    added = sum(adaptation.model.get_parameter(trained).numel() for trained in adaptation.trainable)
    assert added == pytest.approx(0.2 * 2_506_172_416, rel=1e-3)


def test_the_rank_of_neutral_residues_on_gemma_2b(gemma) -> None:
    """ArXiv 2410.02744: 501 M weights."""
    adaptation = METHODS["neutral-residues"]().apply(gemma())
    assert adaptation.adapter.peft_config["default"].rank == 4532


def test_a_given_rank_is_taken(gemma) -> None:
    assert METHODS["adapters"](rank=7).apply(gemma()).adapter.peft_config["default"].rank == 7


def test_the_vision_part_of_a_multimodal_model_does_not_count(make_model) -> None:
    ranks = {
        architecture: METHODS["adapters"]().apply(make_model(architecture)).adapter.peft_config["default"].rank
        for architecture in ("gemma3", "gemma3_text")
    }
    assert ranks["gemma3"] == ranks["gemma3_text"]


def test_less_than_rank_one_is_refused_with_what_would_do(gemma) -> None:
    with pytest.raises(SelectionError, match=r"is less than rank 1, which has 147,456 .* take at least 5\.9e-05"):
        METHODS["neutral-residues"](extra_parameters=1e-6).apply(gemma())
