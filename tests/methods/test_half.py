"""Half fine-tuning: which modules train."""

from __future__ import annotations

from collections import Counter

import pytest

from lingraft.layer_groups import layer_index
from lingraft.methods import METHODS

pytestmark = pytest.mark.integration


def trained(make_model, **settings) -> set[str]:
    return set(METHODS["half"](**settings).apply(make_model()).trainable)


def test_half_of_attention_of_the_block_and_of_the_norms_trains_in_each_layer(make_model) -> None:
    names = trained(make_model)
    counts = Counter(
        (layer_index(name), part) for name in names for part in ("self_attn", "mlp", "layernorm") if part in name
    )
    for layer in range(make_model().config.num_hidden_layers):
        assert counts[layer, "self_attn"] == 2
        assert counts[layer, "layernorm"] == 1
        assert counts[layer, "mlp"] == (1 if layer % 2 else 2)


def test_embeddings_and_final_norm_train(make_model) -> None:
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= trained(make_model)


def test_the_draw_is_that_of_the_seed(make_model) -> None:
    assert trained(make_model) == trained(make_model)
    assert trained(make_model) != trained(make_model, seed=1)
