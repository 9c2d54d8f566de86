from __future__ import annotations

import pytest

from lingraft.layer_groups import LayerGroup
from lingraft.methods import METHODS
from lingraft.methods.parameter_counts import by_group, stack

SETTINGS = {"full": {}, "lora": {"embeddings": True}, "layra": {"first": 2, "last": 1}}


@pytest.fixture
def parts_of(make_model):
    def build(name: str, tied: bool = False):
        model = make_model(tied=tied)
        method = METHODS[name](**SETTINGS[name])
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        adapted = method.apply(model)
        return stack(sizes, adapted, method.layers(4)), sizes, adapted

    return build


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_parts_hold_every_weight_once(parts_of, name, tied) -> None:
    parts, sizes, adapted = parts_of(name, tied)
    assert sum(part.weights for part in parts) == sum(sizes.values())
    trained = sum(adapted.model.get_parameter(name).numel() for name in adapted.trainable)
    assert sum(part.in_full + part.in_adapters for part in parts) == trained


def test_parts_stand_in_the_models_order(parts_of) -> None:
    layers = [f"layer {i}" for i in range(4)]
    assert [part.part for part in parts_of("layra")[0]] == ["embeddings", *layers, "final norm", "head"]
    assert [part.part for part in parts_of("layra", tied=True)[0]] == ["embeddings", *layers, "final norm"]


def test_layra_trains_adapters_in_the_outer_layers_and_embeddings_in_full(parts_of) -> None:
    parts = {part.part: part for part in parts_of("layra")[0]}
    assert parts["embeddings"].in_full == parts["embeddings"].weights
    assert parts["layer 0"].in_adapters > 0 == parts["layer 0"].in_full
    assert parts["layer 2"].in_adapters == parts["layer 2"].in_full == 0
    assert parts["layer 3"].group == LayerGroup.LAST


def test_a_factor_of_a_linears_shape_is_an_adapter(make_model) -> None:
    """k_proj is (16, 32), and so is the first factor at rank 16."""
    model, method = make_model(), METHODS["lora"](rank=16)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert sum(part.in_full for part in stack(sizes, method.apply(model), method.layers(4))) == 0


def test_groups_are_sums_of_their_parts(parts_of) -> None:
    parts = parts_of("layra")[0]
    first = by_group(parts)[LayerGroup.FIRST]
    assert first.weights == parts[1].weights + parts[2].weights
    assert first.in_adapters == parts[1].in_adapters + parts[2].in_adapters
