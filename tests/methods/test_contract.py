"""The laws that every training method keeps on every architecture.

A new method adds a row to METHODS_UNDER_TEST, a new architecture one to `tiny_architectures.TINY`.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy

from lingraft.architectures import ARCHITECTURES
from lingraft.checkpoints.export import probe_logits
from lingraft.errors import SelectionError
from lingraft.layer_groups import LayerGroup, layer_group, plain_name
from lingraft.methods import METHODS
from tiny_architectures import tied_by_default

pytestmark = pytest.mark.integration

METHODS_UNDER_TEST = {
    "full": {"name": "full"},
    "layer-selective": {"name": "layer-selective"},
    "freeze": {"name": "freeze", "first": 2, "last": 1},
    "freeze with embeddings": {"name": "freeze", "first": 1, "last": 1, "embeddings": True},
    "half": {"name": "half"},
    "source-shielded": {"name": "source-shielded"},
    "block-expansion": {"name": "block-expansion", "blocks": 2},
    "embeddings": {"name": "embeddings"},
    "lora": {"name": "lora", "rank": 2},
    "lora with embeddings": {"name": "lora", "rank": 2, "embeddings": True},
    "lora with protected triples": {"name": "lora", "rank": 2, "protected": 3},
    "layra": {"name": "layra", "first": 2, "last": 1, "rank": 2},
    "layra without embeddings": {"name": "layra", "first": 1, "last": 1, "rank": 2, "embeddings": False},
    "lora-ffn": {"name": "lora-ffn"},
    "adapters": {"name": "adapters"},
    "silent-adapters": {"name": "silent-adapters"},
    "silent-adapters in a wider stream": {"name": "silent-adapters", "extra_width": 8},
    "neutral-residues": {"name": "neutral-residues"},
    "neutral-residues sigmoid": {"name": "neutral-residues", "gate": "sigmoid", "loss": "ce"},
    "neutral-residues both losses": {"name": "neutral-residues", "loss": "l1+ce", "init": "he"},
}
WITHOUT_ADAPTER = {"full", "layer-selective", "freeze", "half", "source-shielded", "embeddings", "block-expansion"}

ONE_OF_A_KIND = (
    "full",
    "layra",
    "lora-ffn",
    "adapters",
    "silent-adapters in a wider stream",
    "block-expansion",
)
"""Methods that every architecture is put through; all methods are put through `BROADLY`."""
BROADLY = ("llama", "qwen2", "gemma3_text", "gemma3")


def _cases():
    """Method, base and tying: every method on a few architectures, a few on every architecture."""
    for architecture in ARCHITECTURES:
        broadly = architecture in BROADLY
        for method in METHODS_UNDER_TEST if broadly else ONE_OF_A_KIND:
            for tied in (False, True) if broadly else (tied_by_default(architecture),):
                kind = f"{architecture}-{'tied' if tied else 'untied'}-{method}"
                yield pytest.param(METHODS_UNDER_TEST[method], architecture, tied, id=kind)


def _is_refused(settings, architecture) -> bool:
    text = SimpleNamespace(num_hidden_layers=4, hidden_size=64, num_attention_heads=4, num_key_value_heads=2)
    config = SimpleNamespace(model_type=architecture, get_text_config=lambda: text)
    try:
        METHODS[settings["name"]](**settings).check(config)
    except SelectionError:
        return True
    return False


ALL = list(_cases())
every_case = pytest.mark.parametrize(
    ("settings", "architecture", "tied"), [case for case in ALL if not _is_refused(*case.values[:2])]
)
every_refusal = pytest.mark.parametrize(
    ("settings", "architecture", "tied"), [case for case in ALL if _is_refused(*case.values[:2])]
)
every_method = pytest.mark.parametrize("settings", METHODS_UNDER_TEST.values(), ids=METHODS_UNDER_TEST)
every_base = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])


@pytest.fixture
def base(make_model, architecture, tied):
    return make_model(architecture, tied)


@pytest.fixture
def adapt(make_model, architecture, tied, settings):
    """A factory of adaptations, each of a base of its own."""
    return lambda: METHODS[settings["name"]](**settings).apply(make_model(architecture, tied))


@pytest.fixture
def forms(base, settings) -> tuple[str, ...]:
    return tuple(METHODS[settings["name"]](**settings).exports(base.config))


def train(adaptation, steps: int = 3) -> None:
    """A few steps with noise on the zero factors, so that every trained tensor moves."""
    torch.manual_seed(1)
    parameters = [p for p in adaptation.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    adaptation.model.train()
    for _ in range(steps):
        ids = torch.randint(0, 256, (2, 24))
        logits = adaptation.model(input_ids=ids).logits
        cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    adaptation.model.eval()


@every_case
def test_logits_are_the_bases_before_the_first_step(base, adapt) -> None:
    assert torch.equal(probe_logits(adapt().model, base.config), probe_logits(base, base.config))


@every_case
def test_exactly_the_declared_names_train_and_the_rest_stays_bit_for_bit(adapt) -> None:
    adaptation = adapt()
    before = {name: tensor.clone() for name, tensor in adaptation.model.named_parameters()}
    train(adaptation)
    moved = {name for name, tensor in adaptation.model.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved == set(adaptation.trainable)


@every_case
def test_every_export_saves_and_loads_and_computes_what_the_adapted_model_does(
    base, adapt, forms, tied, tmp_path
) -> None:
    of_base = probe_logits(base, base.config)
    for form in forms:
        adaptation = adapt()
        train(adaptation)
        adapted = probe_logits(adaptation.model, base.config)
        exported = adaptation.exports[form]()
        assert not torch.allclose(adapted, of_base, atol=1e-2)
        torch.testing.assert_close(probe_logits(exported, base.config), adapted, atol=2e-5, rtol=1e-5)
        is_tied = exported.get_input_embeddings().weight is exported.get_output_embeddings().weight
        assert is_tied == (tied and form not in ("qwen2-moe", "wider"))
        for added in _widths_added(exported, base):
            assert added % 64 == 0
        exported.save_pretrained(tmp_path / form)
        loaded = type(exported).from_pretrained(tmp_path / form).eval()
        assert torch.equal(probe_logits(loaded, base.config), probe_logits(exported, base.config))


def _widths_added(exported, base) -> list[int]:
    """What feed-forward blocks and adapters of an export are wider than the base's, cut into 64s or not."""
    own, was = exported.config.get_text_config(), base.config.get_text_config()
    shared = getattr(own, "shared_expert_intermediate_size", 0)
    return [own.intermediate_size - was.intermediate_size, shared, getattr(own, "gated_adapter", {"rank": 0})["rank"]]


@every_case
def test_a_plain_export_has_the_bases_class_and_keys(base, adapt, forms) -> None:
    if "plain" in forms:
        plain = adapt().exports["plain"]()
        assert type(plain) is type(base)
        assert [name for name, _ in plain.named_parameters()] == [name for name, _ in base.named_parameters()]


@every_case
def test_the_forms_are_known_before_training(adapt, forms) -> None:
    assert tuple(adapt().exports) == forms


@every_refusal
def test_a_method_that_an_architecture_cannot_have_is_refused(base, adapt, settings) -> None:
    with pytest.raises(SelectionError, match=rf"'{settings['name']}' .* {base.config.model_type} .*take lora"):
        adapt()


@every_method
@every_base
@pytest.mark.parametrize("architecture", ["llama"])
def test_what_trains_is_float32_and_the_base_keeps_its_type(make_model, settings, tied, architecture) -> None:
    model = make_model(architecture, tied).to(torch.bfloat16)
    adaptation = METHODS[settings["name"]](**settings).apply(model)
    types = {p.dtype for p in adaptation.model.parameters() if p.requires_grad}
    frozen = {
        p.dtype
        for name, p in adaptation.model.named_parameters()
        if not p.requires_grad and ".gated_adapter." not in name  # gates that are added and do not train
    }
    assert types == {torch.float32}
    assert frozen <= {torch.bfloat16}


@pytest.mark.parametrize(
    "settings",
    [of for of in METHODS_UNDER_TEST.values() if of["name"] not in WITHOUT_ADAPTER and "extra_width" not in of],
)
@every_base
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_an_adapter_loads_into_a_fresh_base_with_the_same_keys(base, adapt, tmp_path) -> None:
    adaptation = adapt()
    train(adaptation)
    adaptation.adapter.save_pretrained(tmp_path, save_embedding_layers=False)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    assert [n for n, _ in loaded.named_parameters()] == [n for n, _ in adaptation.model.named_parameters()]
    expected = probe_logits(adaptation.model, base.config)
    torch.testing.assert_close(probe_logits(loaded, base.config), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_layra_leaves_the_middle_layers_and_the_final_norm_alone(make_model, tied) -> None:
    method = METHODS["layra"](name="layra", first=1, last=2, rank=2)
    adaptation = method.apply(make_model(tied=tied))
    groups = {layer_group(name, method.layers(4)) for name in adaptation.trainable}
    head = set() if tied else {LayerGroup.HEAD}
    assert groups == {LayerGroup.EMBEDDINGS, LayerGroup.FIRST, LayerGroup.LAST} | head


@pytest.mark.parametrize("router", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("architecture", ["olmoe", "qwen3_moe"])
def test_the_routers_of_experts_train_only_where_it_is_asked_for(make_model, architecture, router) -> None:
    adaptation = METHODS["full"](name="full", router=router).apply(make_model(architecture))
    frozen = {name for name, p in adaptation.model.named_parameters() if not p.requires_grad}
    assert frozen == (set() if router else {f"model.layers.{i}.mlp.gate.weight" for i in range(4)})


def test_a_router_that_is_not_there_cannot_train(make_model) -> None:
    with pytest.raises(SelectionError, match="router is true, and llama has no experts"):
        METHODS["full"](name="full", router=True).apply(make_model())


def test_lora_adapts_every_linear_of_every_layer(make_model) -> None:
    model = make_model()
    linears = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    adaptation = METHODS["lora"](name="lora", rank=2).apply(model)
    assert {plain_name(name) for name in adaptation.trainable} == linears - {"lm_head.weight"}


def test_the_base_of_an_adapter_is_named_in_its_config(make_model, tmp_path) -> None:
    adaptation = METHODS["layra"](name="layra", first=1, last=1, rank=2).apply(make_model())
    adaptation.adapter.peft_config["default"].base_model_name_or_path = "some/base"
    adaptation.adapter.save_pretrained(tmp_path, save_embedding_layers=False)
    assert '"base_model_name_or_path": "some/base"' in (tmp_path / "adapter_config.json").read_text()
