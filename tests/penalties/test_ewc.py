"""EWC holds each parameter by the true Fisher information of the base, estimated on its own text."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import kl_div, log_softmax

import one_step
from lingraft import run
from lingraft.errors import ModelError, RecipeError, TrainingError
from lingraft.layer_groups import canonical_name
from lingraft.methods import METHODS
from lingraft.nn import chunked_cross_entropy
from lingraft.penalties.ewc import EWC
from lingraft.pipeline.plan import make_plan
from lingraft.recipe import load_recipe
from one_step import penalty_context

pytestmark = pytest.mark.integration

BLOCKS = 5
FILE = "model.safetensors"
ADAPTED = {
    "full": {"name": "full"},
    "freeze": {"name": "freeze", "first": 1, "last": 2, "embeddings": True},
    "layra": {"name": "layra", "first": 2, "last": 1, "rank": 2, "dropout": 0.1},
}
every_method = pytest.mark.parametrize("method", ADAPTED.values(), ids=ADAPTED)


@pytest.fixture
def context(make_model, tmp_path):
    """A factory of contexts, each of a model under a method."""

    def make(method=ADAPTED["full"], tied=False, **settings):
        make_model(tied=tied).save_pretrained(tmp_path)
        return penalty_context(METHODS[method["name"]](**method).apply(make_model(tied=tied)), tmp_path, **settings)

    return make


def fisher(context, **settings) -> dict[str, torch.Tensor]:
    """By canonical name."""
    trained, penalty = list(context.trained()), EWC(weight=1.0, **settings)
    return {canonical_name(of.name): f for of, f in zip(trained, penalty.fisher(context, trained), strict=True)}


def log_probs(model, blocks) -> torch.Tensor:
    """(B, T - 1, V), of the tokens after the first."""
    return log_softmax(model(input_ids=blocks).logits[:, :-1], -1)


@every_method
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("chunk", [2**25, 258 * 3], ids=["whole", "three tokens a chunk"])
def test_fisher_is_the_mean_square_of_the_score_sequence_by_sequence(
    context, make_model, monkeypatch, method, tied, chunk
) -> None:
    """Per token, in float64; also of linears that LoRA adapts, and of a head that is the embeddings."""
    of = context(method, tied)
    monkeypatch.setattr(chunked_cross_entropy, "LOGITS_PER_CHUNK", chunk)
    found = fisher(of, num_blocks=BLOCKS, batch_size=2)
    model = make_model(tied=tied).double()
    weights = {canonical_name(n): w for n, w in model.named_parameters() if canonical_name(n) in found}
    assert found.keys() == weights.keys()
    expected = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for block in (block for number, size in enumerate((2, 2, 1)) for block in of.self_generated(size, number)):
        score = log_probs(model, block[None])[0].gather(1, block[1:, None]).sum()
        for name, gradient in zip(weights, torch.autograd.grad(score, weights.values()), strict=True):
            expected[name] += gradient.square() / (BLOCKS * (len(block) - 1))
    for name in expected:
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), expected[name], rtol=1e-3, atol=1e-5 * expected[name].max())


@every_method
def test_its_gradient_is_autograds_in_float64(context, tmp_path, method) -> None:
    of = context(method)
    information = fisher(of, num_blocks=2)
    term = EWC(weight=5.0, num_blocks=2).prepare(of)
    of.model.double()
    parameters = [of.model.get_parameter(name) for name in of.adaptation.trainable]
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    start = {
        canonical_name(name): tensor.double() for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    merged = {canonical_name(full.name): full.weight for full in of.full_rank()}
    for pair in of.low_rank():
        down, up, scaling = pair.factors
        merged[canonical_name(pair.name)] = start[canonical_name(pair.name)] + scaling * up @ down
    loss = sum(2.5 * (information[name] * (merged[name] - start[name]).square()).sum() for name in merged)
    expected = torch.autograd.grad(loss, parameters)
    term.add_gradients(1.0)
    torch.testing.assert_close([parameter.grad for parameter in parameters], list(expected), rtol=1e-6, atol=1e-12)
    assert sum(term.values().values()) == pytest.approx(float(loss.detach()), rel=1e-6)


def test_with_weight_one_it_is_the_kl_from_the_base_in_nats_per_token(context, make_model) -> None:
    """To second order: half F delta^2 is the KL where one parameter moves, here each of the final norm."""
    of, delta = context(max_length=16), 0.02
    information = fisher(of, num_blocks=400, batch_size=100)["norm.weight"]
    base, moved = make_model(), make_model()
    blocks, kl = of.self_generated(100, 0), 0.0
    with torch.no_grad():
        expected = log_probs(base, blocks).flatten(0, 1).double()
        for i in range(len(information)):
            moved.model.norm.weight[i] += delta
            got = log_probs(moved, blocks).flatten(0, 1).double()
            kl += float(kl_div(got, expected, log_target=True, reduction="batchmean"))
            moved.model.norm.weight[i] -= delta
    assert float(information.sum()) * delta**2 / 2 == pytest.approx(kl, rel=0.1)


def test_fisher_of_a_seed_is_the_same_and_of_another_is_not(context) -> None:
    one, same, other = (fisher(context(seed=seed), num_blocks=2)["norm.weight"] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_fisher_is_estimated_in_mixed_precision_where_that_trains(make_model, tmp_path) -> None:
    """Frozen weights in bf16, LoRA in float32, as on a GPU; close to float32 on the same text."""
    base = make_model().to(torch.bfloat16)
    base.save_pretrained(tmp_path)
    mixed, exact = (METHODS["lora"](rank=2).apply(of) for of in (base, make_model().to(torch.bfloat16).float()))
    mixed, exact = (penalty_context(of, tmp_path) for of in (mixed, exact))
    mixed = replace(mixed, autocast=torch.bfloat16)
    blocks = exact.self_generated(4, 0)
    for of in (mixed, exact):
        object.__setattr__(of, "self_generated", lambda *_: blocks)
    found, expected = fisher(mixed, num_blocks=4), fisher(exact, num_blocks=4)
    for name in expected:
        assert (found[name] - expected[name]).norm() < 0.1 * expected[name].norm()


def test_two_processes_share_the_blocks_and_have_one_fisher(tmp_path) -> None:
    one_step.plain_model().save_pretrained(tmp_path / "base")
    settings = {"method": ADAPTED["freeze"], "base": str(tmp_path / "base"), "training": {"max_grad_norm": 0}}
    settings["penalties"] = {"ewc": {"weight": 100.0, "num_blocks": 3, "batch_size": 1}}
    several = settings | {"training": {"max_grad_norm": 0, "gradient_accumulation_steps": 2}}
    shared = one_step.gradients_of_two_processes(several, tmp_path)
    settings["training"]["gradient_accumulation_steps"] = 4
    alone = one_step.gradients_of_a_step(settings, tmp_path / "alone")
    one_step.assert_equal(shared, {name: of for name, of in alone.items() if name != "log"})


def test_weight_zero_changes_nothing_and_a_larger_weight_moves_less(recipe, tmp_path) -> None:
    """LoRA with dropout beside embeddings in full: the random numbers of training are those of a run without it."""
    recipe["method"] = {"name": "layra", "first": 2, "last": 1, "rank": 2, "dropout": 0.3}
    base, models = load_file(f"{recipe['base']}/model.safetensors"), {}
    for weight in (None, 0.0, 30.0, 3000.0):
        penalties = {} if weight is None else {"ewc": {"weight": weight, "num_blocks": 4}}
        run({**recipe, "penalties": penalties}, tmp_path / str(weight))
        models[weight] = load_file(tmp_path / str(weight) / "model/model.safetensors")
    assert all(torch.equal(models[None][name], models[0.0][name]) for name in base)
    moved = [sum(float((of[n].float() - base[n].float()).square().sum()) for n in base) for of in models.values()]
    assert moved[0] == moved[1] > 1.1 * moved[2]
    assert moved[2] > 1.1 * moved[3]


@every_method
def test_the_plan_counts_the_memory_that_it_holds(context, recipe, method) -> None:
    of = context(method)
    held = sum(information.nbytes for information in fisher(of, num_blocks=1).values())
    assert EWC(weight=1.0).memory(of.model) == held
    recipe["method"] = method
    stage = load_recipe({**recipe, "penalties": {"ewc": {"weight": 1.0}}})
    assert make_plan(stage, stage.only).memory["penalties"] == held
    without = load_recipe(recipe)
    assert "penalties" not in make_plan(without, without.only).memory


def test_a_tokenizer_that_can_begin_no_text_is_refused(context) -> None:
    neither = replace(context(), tokenizer=SimpleNamespace(bos_ids=[], eos_ids=[]))
    with pytest.raises(ModelError, match="neither BOS nor EOS"):
        EWC(weight=1.0).prepare(neither)


def test_a_fisher_information_that_is_no_number_is_refused_by_name(context) -> None:
    of = context()
    of.adaptation.plain.model.norm.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match=r"Fisher information of model\.norm\.weight is no finite number"):
        EWC(weight=1.0, num_blocks=1).prepare(of)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{}", r"penalties\.ewc\.weight: is missing"),
        ("{weight: -1}", r"penalties\.ewc\.weight: should be greater than or equal to 0"),
        ("{weight: 1, blocks: 3}", r"penalties\.ewc\.blocks: unknown key"),
    ],
)
def test_settings_that_are_wrong_are_named(recipe, given, message) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe, [f"penalties={{ewc: {given}}}"])
