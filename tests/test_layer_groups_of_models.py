"""Layer groups of the models of every supported architecture, under every wrapper that their names are met with."""

from collections import Counter
from typing import NamedTuple

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lingraft.architectures import ARCHITECTURES, architecture_of
from lingraft.layer_groups import (
    NOT_LANGUAGE_MODEL,
    LayerGroup,
    LayerRange,
    depth,
    is_multimodal,
    is_tied,
    layer_group,
    layer_index,
    plain_name,
)
from tiny_architectures import tiny_config

pytestmark = pytest.mark.integration

DEPTH = 4
RANGE = LayerRange(first=1, last=2, depth=DEPTH)
TEXT = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LANGUAGE_MODELS = [model_type for model_type, row in ARCHITECTURES.items() if not row.language_model]
STYLES = ["all wrappers", "compiled", "compiled layers", "disk", "live", "parallel", "peft", "peft file"]


def config_of(model_type, **settings):
    return tiny_config(model_type, TEXT, **settings)


def empty_model(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


class Met(NamedTuple):
    """A tensor as it is met in one style, with what it is in the plain model."""

    name: str
    size: int
    plain: str
    group: LayerGroup


def groups_by_identity(model):
    """Live name -> group, told by the model's own objects, without a look at the name."""
    decoder = model.get_decoder()
    owners = [(LayerGroup.EMBEDDINGS, model.get_input_embeddings()), (LayerGroup.FINAL_NORM, decoder.norm)]
    owners += [(RANGE.group(i), layer) for i, layer in enumerate(decoder.layers)]
    owners += [(LayerGroup.HEAD, model.get_output_embeddings())]
    groups = {}
    for group, module in owners:
        for parameter in module.parameters():
            groups.setdefault(id(parameter), group)  # a tied head comes last and stays embeddings
    return {name: groups.get(id(parameter), LayerGroup.OUTSIDE) for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def met(request, tmp_path_factory):
    """Every tensor of an architecture in every style.

    The n-th parameter is filled with n, and so are its LoRA factors: a tensor is known by its
    value wherever it turns up.
    """
    folder = tmp_path_factory.mktemp("model")
    model = AutoModelForCausalLM.from_config(config_of(request.param))
    groups = groups_by_identity(model)
    live = list(groups)
    for number, parameter in enumerate(model.parameters()):
        parameter.data.fill_(number)

    def look(tensors):
        found = [(name, tensor.numel(), live[int(tensor.flatten()[0])]) for name, tensor in tensors]
        return [Met(name, size, plain, groups[plain]) for name, size, plain in found]

    styles = {
        "live": look(model.named_parameters()),
        "compiled": look(torch.compile(model).named_parameters()),
        "parallel": look(torch.nn.DataParallel(model).named_parameters()),
    }
    model.save_pretrained(folder / "plain")
    buffers = {name for name, _ in model.named_buffers()}  # such as the constants of an activation
    stored = load_file(folder / "plain" / "model.safetensors")
    styles["disk"] = look((name, tensor) for name, tensor in stored.items() if name not in buffers)

    tied = is_tied(model.config)
    config = LoraConfig(
        target_modules=list(architecture_of(model.config).linears),
        exclude_modules=NOT_LANGUAGE_MODEL,
        modules_to_save=["embed_tokens"] if tied else ["embed_tokens", "lm_head"],
        ensure_weight_tying=tied,
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config)
    for module in wrapped.modules():
        for factors in (getattr(module, "lora_A", {}), getattr(module, "lora_B", {})):
            for factor in factors.values():
                factor.weight.data.fill_(module.base_layer.weight.flatten()[0].item())
    styles["peft"] = look(wrapped.named_parameters())
    wrapped.save_pretrained(folder / "adapter")
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    if tied:
        del saved["base_model.model.lm_head.weight"]  # peft's second copy of the embeddings
    styles["peft file"] = look(saved.items())
    styles["all wrappers"] = look(torch.nn.DataParallel(torch.compile(wrapped)).named_parameters())

    layers = wrapped.get_base_model().get_decoder().layers
    for i in range(DEPTH):
        layers[i] = torch.compile(layers[i])
    styles["compiled layers"] = look(wrapped.named_parameters())
    assert set(styles) == set(STYLES)
    return styles


@pytest.mark.parametrize("style", STYLES)
def test_every_tensor_lies_in_exactly_one_group(met, style):
    assert {t.name: layer_group(t.name, RANGE) for t in met[style]} == {t.name: t.group for t in met[style]}


@pytest.mark.parametrize("style", [style for style in STYLES if style != "disk"])
def test_plain_name_is_the_live_name_whatever_wraps_it(met, style):
    assert {t.name: plain_name(t.name) for t in met[style]} == {t.name: t.plain for t in met[style]}


def test_plain_name_leaves_the_names_of_a_plain_file(met):
    # of a multimodal model these are not the live names, but nothing wraps them
    assert [plain_name(t.name) for t in met["disk"]] == [t.name for t in met["disk"]]


@pytest.mark.parametrize("style", STYLES)
def test_plain_name_of_a_plain_name_is_itself(met, style):
    names = {plain_name(t.name) for t in met[style]}
    assert {plain_name(name) for name in names} == names


@pytest.mark.parametrize("style", STYLES)
def test_the_vision_towers_layers_are_no_decoder_layers(met, style):
    layers = {t.name: layer_index(plain_name(t.name)) for t in met[style]}
    decoder = {t.name for t in met[style] if t.group in (LayerGroup.FIRST, LayerGroup.MIDDLE, LayerGroup.LAST)}
    assert {name for name, index in layers.items() if index is not None} == decoder


def test_a_file_and_the_live_model_have_equal_groups(met):
    disk, live = Counter(), Counter()
    for totals, style in ((disk, "disk"), (live, "live")):
        for tensor in met[style]:
            totals[layer_group(tensor.name, RANGE)] += tensor.size
    assert disk == live


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", LANGUAGE_MODELS)
def test_only_an_untied_head_has_a_tensor_of_its_own(model_type, tied):
    config = config_of(model_type, tie_word_embeddings=tied)
    names = [name for name, _ in empty_model(config).named_parameters()]
    heads = [name for name in names if layer_group(name, RANGE) == LayerGroup.HEAD]
    assert heads == ([] if tied else ["lm_head.weight"])
    assert is_tied(config) == tied


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_depth_is_the_number_of_decoder_layers(model_type):
    config = config_of(model_type)
    assert depth(config) == len(empty_model(config).get_decoder().layers)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_only_a_config_of_several_parts_is_multimodal(model_type):
    assert is_multimodal(config_of(model_type)) == (model_type not in LANGUAGE_MODELS)
