"""Source-shielded updates: the columns that old text needs most stay bit for bit, under weight decay too."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn.functional import cross_entropy

import lingraft
from lingraft.methods import METHODS, TextToFit

pytestmark = pytest.mark.integration

SPECIAL = (3, 5)


@pytest.fixture
def shielded(make_model):
    """Adaptation of a tiny model, fitted on half old and half new text."""
    adaptation = METHODS["source-shielded"]().apply(make_model())
    torch.manual_seed(0)
    blocks = torch.randint(0, 256, (8, 32))
    is_old = torch.arange(8)[:, None].expand(8, 32) < 4
    adaptation.fit(TextToFit(blocks, is_old, ~is_old, SPECIAL))
    return adaptation


def step(adaptation) -> None:
    """One step with much weight decay."""
    optimizer = torch.optim.AdamW(adaptation.model.parameters(), lr=1e-2, weight_decay=1.0)
    ids = torch.randint(0, 256, (2, 24))
    logits = adaptation.model(input_ids=ids).logits
    cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
    optimizer.step()
    adaptation.after_step()


def moved(adaptation) -> dict[str, torch.Tensor]:
    before = {name: tensor.clone() for name, tensor in adaptation.model.named_parameters()}
    step(adaptation)
    return {name: tensor != before[name] for name, tensor in adaptation.model.named_parameters()}


def test_half_of_the_columns_of_each_linear_stay_and_the_others_move(shielded) -> None:
    for name, is_moved in moved(shielded).items():
        if name.endswith("proj.weight"):
            columns = is_moved.any(dim=0)
            assert int(columns.sum()) == len(columns) - round(len(columns) / 2), name


def test_rows_of_special_tokens_stay_and_no_others(shielded) -> None:
    rows = moved(shielded)["model.embed_tokens.weight"].any(dim=1)
    assert [token for token, is_moved in enumerate(rows.tolist()) if not is_moved] == list(SPECIAL)


def test_a_column_stays_whose_input_is_large_on_old_text(make_model) -> None:
    """W's columns are alike; what enters `q_proj` is large in the entries that the norm before it makes large."""
    model = make_model()
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.q_proj.weight.fill_(0.1)
        layer.input_layernorm.weight.fill_(0.1)
        layer.input_layernorm.weight[:4] = 3.0
    adaptation = METHODS["source-shielded"](share=4 / model.config.hidden_size).apply(model)
    blocks = torch.randint(0, 256, (2, 16))
    adaptation.fit(TextToFit(blocks, torch.ones_like(blocks, dtype=torch.bool), torch.zeros_like(blocks)))
    is_moved = moved(adaptation)["model.layers.0.self_attn.q_proj.weight"].any(dim=0)
    assert not is_moved[:4].any()
    assert is_moved[4:].all()


def test_a_run_without_replay_scores_on_text_that_the_base_generates(recipe, tmp_path, caplog) -> None:
    caplog.set_level("INFO", "lingraft")
    recipe["method"] = {"name": "source-shielded"}
    lingraft.run(recipe, tmp_path / "run")
    assert re.search(r"the method was fitted on [1-9][\d,]* tokens of old and [1-9]", caplog.text)
