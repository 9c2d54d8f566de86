import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from lingraft.architectures import ARCHITECTURES, REFUSED
from lingraft.errors import ModelError, SelectionError
from lingraft.layer_groups import LayerGroup, LayerRange, layer_group, plain_name, text_config

DEPTH = 4
RANGE = LayerRange(first=1, last=2, depth=DEPTH)


@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module.", "module._orig_mod.base_model.model."],
)
def test_a_wrapper_leaves_the_group_as_it_is(prefix):
    for name in ("model.embed_tokens.weight", "model.layers.3.mlp.up_proj.weight", "model.norm.weight"):
        assert layer_group(prefix + name, RANGE) == layer_group(name, RANGE)
        assert plain_name(prefix + name) == name


@pytest.mark.parametrize("name", ["model.rotary.weight", "score.weight", "transformer.h.0.attn.weight", ""])
def test_a_tensor_of_an_unknown_layout_is_an_error_that_names_it(name):
    with pytest.raises(SelectionError, match=f"'{name}' lies in no layer group"):
        layer_group(name, RANGE)


def test_a_tensor_below_the_models_depth_is_an_error():
    with pytest.raises(SelectionError, match="layers 0 to 3"):
        layer_group("model.layers.4.mlp.up_proj.weight", RANGE)


@pytest.mark.parametrize("model_type", ["gpt2", None])
def test_an_unknown_architecture_is_an_error_that_lists_the_known(model_type):
    with pytest.raises(ModelError) as caught:
        text_config(SimpleNamespace(model_type=model_type))
    assert f"'{model_type}'" in str(caught.value)
    assert ", ".join(ARCHITECTURES) in str(caught.value)


@pytest.mark.parametrize("model_type", REFUSED)
def test_an_architecture_that_is_refused_is_an_error_that_says_why(model_type):
    with pytest.raises(ModelError, match=re.escape(f"'{model_type}' is not supported ({REFUSED[model_type]})")):
        text_config(SimpleNamespace(model_type=model_type))


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (-1, 2), (2, -1), (3, 2), (5, 0), (0, 5)], ids=lambda count: str(count)
)
def test_a_range_that_does_not_fit_is_an_error_that_names_the_depth(first, last):
    with pytest.raises(SelectionError, match=rf"first={first}.*last={last}.*the model has 4"):
        LayerRange(first, last, 4)


def ranges():
    random = np.random.default_rng(0)
    for _ in range(200):
        layers = int(random.integers(1, 81))
        first = int(random.integers(0, layers + 1))
        last = int(random.integers(0 if first else 1, layers - first + 1)) if first < layers else 0
        yield LayerRange(first, last, layers)


def test_first_middle_and_last_partition_the_layers():
    for layers in ranges():
        groups = [layers.group(i) for i in range(layers.depth)]
        middle = layers.depth - layers.first - layers.last
        expected = [LayerGroup.FIRST] * layers.first + [LayerGroup.MIDDLE] * middle + [LayerGroup.LAST] * layers.last
        assert groups == expected


def test_outer_layers_are_those_that_are_not_in_the_middle():
    for layers in ranges():
        assert layers.outer == [i for i in range(layers.depth) if layers.group(i) != LayerGroup.MIDDLE]
        assert all(a < b for a, b in pairwise(layers.outer))


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_is_not_there_has_no_group(layer):
    with pytest.raises(SelectionError, match="layers 0 to 3"):
        RANGE.group(layer)
