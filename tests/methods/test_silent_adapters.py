"""Silent adapters: copies of the base's units, closed on old text, open on new text, in wider feed-forward blocks."""

from __future__ import annotations

import json

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, LlamaConfig

import lingraft
from lingraft.checkpoints.export import probe_logits, verify_model, write_model
from lingraft.errors import RecipeError, SelectionError
from lingraft.methods import METHODS, TextToFit
from lingraft.methods.new_rows import train_new_rows
from lingraft.nn.peft_adapter import GatedAdapterLayer
from lingraft.recipe import load_recipe
from lingraft.training.batches import TrainingText, text_to_fit

pytestmark = pytest.mark.integration

OLD, NEW = range(8), range(8, 16)
"""Token ids: few enough for a tiny model to tell apart."""
MARK = 20


def blocks(ids: range, rows: int, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randint(ids.start, ids.stop, (rows, 32))


def fitted(make_model, cut: int = 0, **settings):
    """An adaptation, fitted on 24 blocks of each kind, each after a mark, but for `cut` of them."""
    adaptation = METHODS["silent-adapters"](**{"rank": 4, **settings}).apply(make_model())
    given = torch.cat([blocks(OLD, 24, 0), blocks(NEW, 24, 1)])
    given[cut:, 0] = MARK
    is_new = torch.arange(48)[:, None].expand(48, 32) >= 24
    adaptation.fit(TextToFit(given, ~is_new, is_new, [MARK]))
    return adaptation


def layers_of(adaptation) -> list[GatedAdapterLayer]:
    return [module for module in adaptation.model.modules() if isinstance(module, GatedAdapterLayer)]


@torch.no_grad()
def gates(adaptation, ids) -> torch.Tensor:
    """(layers, tokens, rank), before the activation."""
    layers = layers_of(adaptation)
    seen: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda module, inputs: seen.append(module.adapter.gate_proj(inputs[0]).flatten(0, -2))
        )
        for layer in layers
    ]
    adaptation.plain(ids)
    for hook in hooks:
        hook.remove()
    return torch.stack(seen)


def test_gates_are_closed_on_old_text_and_open_on_new_text(make_model) -> None:
    adaptation = fitted(make_model)
    old, new = gates(adaptation, blocks(OLD, 4, 2)), gates(adaptation, blocks(NEW, 4, 3))
    assert old.median() < -10
    assert old.quantile(0.95) < -5
    assert new.mean() == pytest.approx(0, abs=2)


def test_units_are_those_of_the_base_that_are_most_active_on_new_text(make_model) -> None:
    adaptation, active = fitted(make_model, closing=0.0), []
    layer = layers_of(adaptation)[0]
    base, adapter = layer.base_layer, layer.adapter
    hook = layer.register_forward_pre_hook(
        lambda module, inputs: active.append(base.act_fn(base.gate_proj(inputs[0])) * base.up_proj(inputs[0]))
    )
    new = blocks(NEW, 24, 1)
    new[:, 0] = MARK
    with torch.no_grad():
        adaptation.plain(new)
    hook.remove()
    share = active[0].abs().mean((0, 1)) * base.down_proj.weight.norm(dim=0)
    units = share.topk(4).indices.sort().values
    torch.testing.assert_close(adapter.gate_proj.weight, base.gate_proj.weight[units])
    assert not adapter.down_proj.weight.any()


@pytest.mark.parametrize("cut", [0, 20])
@pytest.mark.parametrize("layer", [0, -1])
def test_nothing_is_added_on_the_first_token_of_a_text_also_after_training(make_model, cut, layer) -> None:
    """Later tokens attend to it, so what is added there would change all of a text."""
    adaptation = fitted(make_model, cut, closing=0.0)
    looked_at = layers_of(adaptation)[layer]
    trained = [adaptation.model.get_parameter(name) for name in adaptation.trainable]
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1)
    for seed in range(3):
        ids = blocks(NEW, 2, seed)
        adaptation.plain(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        adaptation.after_step()
    added = []
    looked_at.adapter.register_forward_hook(lambda module, inputs, output: added.append(output.norm(dim=-1)))
    ids = torch.cat([blocks(OLD, 2, 8), blocks(NEW, 2, 9)])
    ids[:, 0] = MARK
    with torch.no_grad():
        adaptation.plain(ids)
    assert added[0][:, 0].max() < 1e-4 * added[0][:, 1:].mean()


def test_one_row_closes_all_gates_of_a_block(make_model) -> None:
    open_, closed = (layers_of(fitted(make_model, closing=at))[0].adapter.gate_proj.weight for at in (0.0, 20.0))
    taken = open_ - closed
    torch.testing.assert_close(taken, taken[:1].expand_as(taken), atol=1e-5, rtol=1e-4)


def test_there_may_be_more_units_than_the_base_has(make_model) -> None:
    base = make_model().config.intermediate_size
    adaptation = fitted(make_model, rank=base + 3)
    assert gates(adaptation, blocks(OLD, 4, 2)).median() < -10


def test_gates_do_not_train(make_model) -> None:
    adaptation = fitted(make_model)
    assert {name.split(".")[-2] for name in adaptation.trainable} == {"up_proj", "down_proj"}


def test_fitting_changes_no_logits(make_model) -> None:
    ids = blocks(range(256), 2, 4)
    with torch.no_grad():
        torch.testing.assert_close(fitted(make_model).plain(ids).logits, make_model()(ids).logits, atol=0, rtol=0)


def test_tokens_that_are_neither_old_nor_new_do_not_count(make_model) -> None:
    given = torch.cat([blocks(OLD, 8, 0), blocks(NEW, 8, 1)])
    is_new = torch.arange(16)[:, None].expand(16, 32) >= 8
    padded = torch.cat([given, torch.zeros(16, 5, dtype=torch.long)], dim=1)
    none = torch.zeros(16, 5, dtype=torch.bool)
    found = []
    for ids, old, new in (
        (given, ~is_new, is_new),
        (padded, torch.cat([~is_new, none], 1), torch.cat([is_new, none], 1)),
    ):
        torch.manual_seed(0)
        adaptation = METHODS["silent-adapters"](rank=4).apply(make_model())
        adaptation.fit(TextToFit(ids, old, new))
        found.append(adaptation.model.state_dict())
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, atol=1e-2, rtol=1e-2)


def train_on_new_text(adaptation, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW([adaptation.model.get_parameter(name) for name in adaptation.trainable], lr=0.05)
    for seed in range(steps):
        ids = blocks(NEW, 2, seed)
        adaptation.plain(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        adaptation.after_step()


@torch.no_grad()
def in_new_dimensions(adaptation, ids) -> torch.Tensor:
    """Norms of what the last layer leaves there (B, T)."""
    return adaptation.plain.get_decoder()(ids).last_hidden_state[..., 32:].norm(dim=-1)


def test_new_dimensions_of_the_stream_stay_empty_on_old_text(make_model) -> None:
    adaptation = fitted(make_model, extra_width=8, closing=200.0)
    train_on_new_text(adaptation)
    old, new = (in_new_dimensions(adaptation, blocks(ids, 4, 5)) for ids in (OLD, NEW))
    assert old[:, 1:].median() < 1e-3 * new[:, 1:].median()


def test_what_reads_the_new_dimensions_trains_and_the_base_does_not(make_model) -> None:
    adaptation = fitted(make_model, extra_width=8)
    trained = {name.split("layers.0.")[1] for name in adaptation.trainable if "layers.0." in name}
    reads = {f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")}
    reads |= {f"mlp.base_layer.{name}" for name in ("gate_proj", "up_proj")}
    adapter = "mlp.gated_adapter.default"
    assert trained == {f"{name}.wider.weight" for name in reads} | {
        f"{adapter}.{name}.weight" for name in ("up_proj", "down_proj")
    }
    assert sum(name.endswith("lm_head.wider.weight") for name in adaptation.trainable) == 1


def test_a_stream_that_transformers_would_refuse_is_refused_before(make_model) -> None:
    with pytest.raises(SelectionError, match=r"extra_width 3: hidden_size 32 .* multiple of num_attention_heads \(2\)"):
        METHODS["silent-adapters"](rank=4, extra_width=3).apply(make_model())


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2"])
def test_a_wider_model_loads_where_the_base_states_no_width_of_heads(make_model, tmp_path, architecture) -> None:
    """It no longer follows from `hidden_size`."""
    base = make_model(architecture)
    base.save_pretrained(tmp_path / "base")
    config = json.loads((tmp_path / "base/config.json").read_text())
    config.pop("head_dim", None)
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    adaptation = METHODS["silent-adapters"](rank=4, extra_width=8).apply(base)
    train_on_new_text(adaptation)
    live = probe_logits(adaptation.plain, base.config)
    write_model(adaptation.exports["wider"](), tmp_path / "base", tmp_path / "wider")
    verify_model(tmp_path / "wider", live, torch.float32, 1e-4)


def test_new_tokens_write_into_the_new_dimensions(make_model) -> None:
    adaptation = train_new_rows(METHODS["silent-adapters"](rank=4, extra_width=8).apply(make_model()), 200)
    rows = adaptation.plain.get_input_embeddings().wider.weight
    adaptation.plain(input_ids=torch.tensor([[1, 201, 2]]), labels=torch.tensor([[1, 201, 2]])).loss.backward()
    assert rows.requires_grad
    assert not rows.grad[:200].any()
    assert rows.grad[201].any()


def test_text_to_fit_is_spread_over_text_and_self_generated_text() -> None:
    def table(first: int, rows: int, language: int) -> Dataset:
        return Dataset.from_dict(
            {"input_ids": [[first + i] * 4 for i in range(rows)], "languages": [[language] * 4] * rows}
        )

    text = TrainingText(
        blocks=table(0, 10, 0),
        languages=["nya_Latn", "self-generated"],
        learned=["nya_Latn"],
        validation={},
        written=table(100, 5, 1),
        weights=(1.0, 1.0),
        selection=None,
    )
    ids, is_old, is_new = text_to_fit(text, 3)
    assert ids[:, 0].tolist() == [0, 4, 9, 100, 102, 104]
    assert is_new[:, 1].tolist() == [True] * 3 + [False] * 3
    assert not is_new[:, 0].any()
    assert torch.equal(is_old[:, 1:], ~is_new[:, 1:])


def test_a_run_closes_the_gates_and_leaves_a_plain_wider_model(recipe, tmp_path, caplog) -> None:
    caplog.set_level("INFO", "lingraft")
    recipe |= {"method": {"name": "silent-adapters", "rank": 4}, "replay": {"self_generated": 0.3}}
    lingraft.run(recipe, tmp_path / "run")
    assert "the method was fitted on" in caplog.text
    widths = [AutoModelForCausalLM.from_pretrained(at).config for at in (recipe["base"], tmp_path / "run/model")]
    assert [type(config) for config in widths] == [LlamaConfig] * 2
    assert widths[1].intermediate_size == widths[0].intermediate_size + 64


def test_it_needs_replay(recipe) -> None:
    recipe["method"] = {"name": "silent-adapters"}
    with pytest.raises(RecipeError, match=r"'silent-adapters' needs text that the base generates .*self_generated"):
        load_recipe(recipe)
