"""Special tokens may lie beyond the rows of the embeddings, as in Gemma 3 1B; tokens that text becomes may not."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

import lingraft
from lingraft.checkpoints import bounded
from lingraft.checkpoints.chat_template import check_template, tokenizer_for_chat
from lingraft.checkpoints.check import check_model
from lingraft.errors import ModelError, UserError
from lingraft.pipeline.check import check_models, check_models_here
from lingraft.recipe import load_recipe
from vocabulary.families import PERSIAN, gemma, sentences

pytestmark = pytest.mark.integration

IMAGE = "<image_soft_token>"


@pytest.fixture
def folder(tmp_path, make_model) -> Path:
    """Like Gemma 3 1B: a row for every token, and one special token more."""
    from transformers import PreTrainedTokenizerFast

    core = gemma()
    rows = core.get_vocab_size(with_added_tokens=True)
    core.add_special_tokens([AddedToken(IMAGE, special=True)])
    make_model("gemma3_text", tied=True, vocab_size=rows, bos_token_id=1, eos_token_id=2).to(
        torch.bfloat16
    ).save_pretrained(tmp_path / "folder")
    PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>").save_pretrained(
        tmp_path / "folder"
    )
    return tmp_path / "folder"


def rows_of(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


def make_ordinary(folder: Path) -> None:
    """The token beyond the rows is one that text becomes."""
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    for token in spec["added_tokens"]:
        if token["content"] == IMAGE:
            token["special"] = False
    path.write_text(json.dumps(spec))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("added_tokens_decoder", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_a_special_token_without_a_row_is_measured_around_and_trains(folder, recipe, texts, tmp_path) -> None:
    (tmp_path / "with.jsonl").write_text(json.dumps({"text": f"watu {IMAGE} maji na nyumba ya moto"}) + "\n")
    results = lingraft.evaluate(folder, {"swh_Latn": str(tmp_path / "with.jsonl")}, max_length=32)
    assert results["languages"]["swh_Latn"]["bits_per_byte"]["after"] > 0
    resolved = load_recipe({**recipe, "base": str(folder)})
    check_models_here(resolved)
    recipe |= {"base": str(folder), "training": {**recipe["training"], "max_steps": 2}}
    lingraft.run(recipe, tmp_path / "out")
    assert IMAGE in AutoTokenizer.from_pretrained(tmp_path / "out/model").get_vocab()
    assert len(load_file(tmp_path / "out/model/model.safetensors")["model.embed_tokens.weight"]) == rows_of(folder)


def test_extend_gives_it_a_row_and_its_own_tokens_follow(folder, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "persian.txt").write_text("\n".join(sentences(PERSIAN, 200)))
    out = lingraft.tokenizer.extend(folder, str(tmp_path / "persian.txt"), 20, tmp_path / "out")
    assert f"1 special tokens without a row ({IMAGE}) keep their ids and get rows" in caplog.text
    rows, ids = rows_of(folder), AutoTokenizer.from_pretrained(out).get_vocab()
    assert ids[IMAGE] == rows
    assert max(ids.values()) == rows + 20
    old, new = (load_file(of / "model.safetensors")["model.embed_tokens.weight"] for of in (folder, out))
    assert len(new) >= rows + 21
    assert torch.equal(new[:rows], old)
    assert torch.allclose(new[rows].float(), old.float().mean(0), atol=1e-2)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model(torch.tensor([[1, rows, rows + 20]])).logits.isfinite().all()
    merged = lingraft.merge.vectors(folder, {out: 0.5}, tmp_path / "merged")  # rows are matched where both have one
    assert len(load_file(merged / "model.safetensors")["model.embed_tokens.weight"]) == len(new)


def test_models_with_such_a_token_are_merged(folder, tmp_path) -> None:
    lingraft.merge.soup([folder], tmp_path / "out")
    assert rows_of(tmp_path / "out") == rows_of(folder)


def test_a_token_without_a_row_that_text_becomes_is_refused_by_every_command(folder, recipe, texts, tmp_path) -> None:
    make_ordinary(folder)
    resolved = load_recipe({**recipe, "base": str(folder)})
    text = {"swh_Latn": str(texts["swh_Latn"])}
    calls = {
        "run": lambda: check_models(resolved),
        "dry run": lambda: check_models_here(resolved),
        "evaluate": lambda: lingraft.evaluate(folder, text),
        "fertility": lambda: lingraft.tokenizer.fertility([folder], text),
        "extend": lambda: lingraft.tokenizer.extend(folder, str(texts["swh_Latn"]), 5, tmp_path / "out"),
        "merge": lambda: lingraft.merge.soup([folder], tmp_path / "out"),
    }
    for call in calls.values():
        with pytest.raises(ModelError, match=r"tokens that text becomes have none, the first is '<image_soft"):
            call()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mark", ["bos_token", "eos_token", "unk_token"])
def test_a_mark_of_every_text_without_a_row_is_refused(folder, mark) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {mark: IMAGE}))
    with pytest.raises(ModelError, match="tokens that text becomes have none"):
        check_model(folder)


def test_a_chat_template_that_writes_it_is_refused(folder) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}<image_soft_token>")
    tokenizer = tokenizer_for_chat(folder, None)
    with pytest.raises(ModelError, match=r"its chat template writes '<image_soft_token>' .* have none"):
        check_template(tokenizer, folder, rows_of(folder))


LOOPS = {
    "that loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "that is too large": "{{ 'a' * 10**11 }}",
    "that never ends a number": "{{ 10 ** (10 ** 9) }}",
}


@pytest.mark.parametrize("template", LOOPS.values(), ids=LOOPS)
def test_a_chat_template_without_an_end_is_refused(folder, monkeypatch, template) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 1)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=r"chat template takes longer than .* seconds, or more memory"):
        check_template(tokenizer_for_chat(folder, None), folder)


def test_what_is_no_template_is_refused(folder) -> None:
    (folder / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(ModelError, match="the chat template cannot be used: TemplateSyntaxError"):
        check_template(tokenizer_for_chat(folder, None), folder)
