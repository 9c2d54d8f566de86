"""Block expansion: copies of layers that write nothing, between those of the base."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

import lingraft
from lingraft.errors import SelectionError
from lingraft.layer_groups import layer_index
from lingraft.methods import METHODS

pytestmark = pytest.mark.integration


def expanded(model, blocks: int = 2):
    return METHODS["block-expansion"](blocks=blocks).apply(model)


def test_the_last_layer_of_each_group_is_copied_after_itself(make_model) -> None:
    model = expanded(make_model(), 2).plain
    layers = model.model.layers
    assert len(layers) == model.config.num_hidden_layers == 6
    for original, copied in ((1, 2), (4, 5)):
        assert torch.equal(layers[original].mlp.up_proj.weight, layers[copied].mlp.up_proj.weight)
        assert not layers[copied].mlp.down_proj.weight.any()
        assert not layers[copied].self_attn.o_proj.weight.any()


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "olmo2"])
def test_what_a_copy_writes_grows_slowly(make_model, architecture) -> None:
    """A norm between a block and the residual stream would make a step of 1e-6 as large as any."""
    adaptation = expanded(make_model(architecture), 2)
    ids = torch.randint(0, 256, (2, 16))
    with torch.no_grad():
        before = adaptation.plain(ids).logits
    trained = [adaptation.model.get_parameter(name) for name in adaptation.trainable]
    optimizer = torch.optim.AdamW(trained, lr=1e-6)
    for _ in range(2):
        adaptation.plain(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    with torch.no_grad():
        moved = (adaptation.plain(ids).logits - before).abs().max()
    assert 0 < moved < 1e-3


def test_the_copies_alone_train(make_model) -> None:
    assert {layer_index(name) for name in expanded(make_model(), 2).trainable} == {2, 5}


def test_each_layer_has_keys_and_values_of_its_own(make_model) -> None:
    """A model that generates with a cache continues as without."""
    model = expanded(make_model(), 2).plain.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    ids = torch.randint(0, 256, (1, 8))
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": -1, "pad_token_id": 0}
    assert torch.equal(model.generate(ids, **settings), model.generate(ids, use_cache=False, **settings))


def test_kinds_of_layers_stay_those_of_the_base(make_model) -> None:
    base = make_model("gemma3_text")
    kinds = list(base.config.layer_types)
    config = expanded(base, 2).plain.config
    assert config.layer_types == [kinds[0], kinds[1], kinds[1], kinds[2], kinds[3], kinds[3]]


def test_more_copies_than_layers_are_refused(make_model) -> None:
    with pytest.raises(SelectionError, match="blocks=5: the model has 4 layers, and each is copied once"):
        expanded(make_model(), 5)


def test_a_run_leaves_a_plain_deeper_model(recipe, tmp_path) -> None:
    recipe["method"] = {"name": "block-expansion", "blocks": 2}
    lingraft.run(recipe, tmp_path / "run")
    depths = [
        AutoModelForCausalLM.from_pretrained(at).config.num_hidden_layers
        for at in (recipe["base"], tmp_path / "run/model")
    ]
    assert depths[1] == depths[0] + 2
