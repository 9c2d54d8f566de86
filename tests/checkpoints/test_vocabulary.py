"""Rows are matched by token: vocabularies that grew, another order, padding, tied heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import lingraft
from lingraft.errors import ModelError, UserError

pytestmark = pytest.mark.integration

merge = lingraft.merge
OLD = ["<bos>", "<eos>", "<unk>", *["water", "fire", "book", "school", "child", "sun", "moon", "fish", "tree", "house"]]
NEW = ["maji", "moto", "kitabu", "shule", "mtoto", "jua"]


@pytest.fixture
def make(tmp_path, make_model) -> Callable[..., Path]:
    """A factory of a model over a vocabulary of words, in the order given, with padded rows after it."""

    def build(name: str, words: list[str], padding: int = 0, tied: bool = False, seed: int = 0) -> Path:
        core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
        )
        ids = {"bos_token_id": words.index("<bos>"), "eos_token_id": words.index("<eos>")}
        model = make_model(tied=tied, vocab_size=len(words) + padding, **ids)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        model.to(torch.bfloat16).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return build


def _rows(folder: Path, part: str = "model.embed_tokens") -> tuple[dict[str, int], torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(folder).get_vocab(), model.get_parameter(f"{part}.weight").detach()


@pytest.mark.parametrize("part", ["model.embed_tokens", "lm_head"])
def test_rows_are_combined_by_token_not_by_position(make, tmp_path, part) -> None:
    base, grown = make("base", OLD, seed=1), make("grown", [*NEW, *reversed(OLD)], seed=2)
    merge.vectors(base, {grown: 0.5}, tmp_path / "out")
    ids, rows = _rows(tmp_path / "out", part)
    (base_ids, base_rows), (grown_ids, grown_rows) = _rows(base, part), _rows(grown, part)
    assert ids.keys() == {*OLD, *NEW}
    for token in OLD:
        mean = (base_rows[base_ids[token]] + grown_rows[grown_ids[token]]) / 2
        assert torch.equal(rows[ids[token]], mean.bfloat16().float()), token
    for token in NEW:
        assert torch.equal(rows[ids[token]], grown_rows[grown_ids[token]]), token


def test_text_of_both_tokenizers_is_scored_as_by_rows_matched_by_hand(make, tmp_path) -> None:
    base, grown = make("base", OLD, seed=1), make("grown", [*reversed(OLD), *NEW], seed=2)
    merge.soup([base, grown], tmp_path / "out", dtype="float32")
    by_hand = AutoModelForCausalLM.from_pretrained(grown, dtype=torch.float32)
    small = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).state_dict()
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (base, grown))
    with torch.no_grad():
        for name, parameter in by_hand.named_parameters():
            if name in ("model.embed_tokens.weight", "lm_head.weight"):
                for token, row in old.get_vocab().items():
                    at = new.get_vocab()[token]
                    parameter[at] = (parameter[at] + small[name][row]) / 2
            else:
                parameter.copy_((parameter + small[name]) / 2)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for tokenizer, text in ((old, "water fire book sun"), (new, "maji moto water kitabu sun")):
        tokens = tokenizer.tokenize(text)
        ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "out").convert_tokens_to_ids(tokens)])
        assert torch.allclose(merged(ids).logits, by_hand(ids).logits, atol=1e-5)


def test_a_difference_against_a_smaller_base_keeps_new_rows(make, tmp_path) -> None:
    base, grown, chat = make("base", OLD, seed=1), make("grown", [*OLD, *NEW], seed=2), make("chat", OLD, seed=3)
    merge.instruct(grown, base, chat, tmp_path / "out", scale=0.5)
    ids, rows = _rows(tmp_path / "out")
    assert len(rows) == len(OLD) + len(NEW)
    for token in NEW:
        assert torch.equal(rows[ids[token]], _rows(grown)[1][ids[token]])
    merge.revert(grown, base, tmp_path / "reverted", first=1, last=1)
    assert torch.equal(_rows(tmp_path / "reverted")[1], _rows(grown)[1])


def test_padded_rows_are_kept(make, tmp_path, same_bits) -> None:
    plain, padded = make("plain", OLD, seed=1), make("padded", OLD, padding=3, seed=2)
    merge.vectors(plain, {padded: 0.5}, tmp_path / "out")
    rows, original = _rows(tmp_path / "out")[1], _rows(padded)[1]
    assert len(rows) == len(OLD) + 3
    assert torch.equal(rows[-3:], original[-3:])
    same_bits(merge.soup([padded], tmp_path / "alone"), padded)


def test_padded_rows_of_both_are_combined_in_place(make, tmp_path) -> None:
    one, other = make("one", OLD, padding=3, seed=1), make("other", OLD, padding=3, seed=2)
    merge.soup([one, other], tmp_path / "out", dtype="float32")
    assert torch.equal(_rows(tmp_path / "out")[1], (_rows(one)[1] + _rows(other)[1]) / 2)


def test_a_tied_head_stays_tied_when_the_vocabulary_grew(make, tmp_path) -> None:
    base, grown = make("base", OLD, tied=True, seed=1), make("grown", [*NEW, *OLD], tied=True, seed=2)
    merge.vectors(base, {grown: 0.5}, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.vocab_size == len(OLD) + len(NEW) == len(model.lm_head.weight)


def test_token_ids_in_configs_follow_their_tokens(make, tmp_path) -> None:
    """Config and chat template are the instruct model's, the tokens another's: BOS is the same token."""
    base, grown, chat = make("base", OLD, seed=1), make("grown", [*NEW, *OLD], seed=2), make("chat", OLD, seed=3)
    described = json.loads((chat / "tokenizer_config.json").read_text()) | {"eos_token": "moon"}
    (chat / "tokenizer_config.json").write_text(json.dumps(described))
    (chat / "chat_template.jinja").write_text("{{ messages[0].content }} <eos>")
    settings = json.loads((chat / "generation_config.json").read_text()) | {"eos_token_id": [1, OLD.index("moon")]}
    (chat / "generation_config.json").write_text(json.dumps(settings))
    merge.instruct(grown, base, chat, tmp_path / "out", scale=1)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_ids_to_tokens([config["bos_token_id"], config["eos_token_id"]]) == ["<bos>", "<eos>"]
    ends = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_ids_to_tokens(ends) == ["<eos>", "moon"]
    assert tokenizer.eos_token == "moon"
    assert tokenizer.chat_template.startswith("{{ messages")
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(grown).get_vocab()


def test_tokens_that_no_tokenizer_has_all_of_need_a_choice(make, tmp_path) -> None:
    one, other = make("one", [*OLD, *NEW[:3]], seed=1), make("other", [*OLD, *NEW[3:]], seed=2)
    with pytest.raises(ModelError, match=r"one lacks 3, such as 'jua'.*--tokenizer PARENT"):
        merge.soup([one, other], tmp_path / "out")
    merge.soup([one, other], tmp_path / "out", tokenizer=other)
    ids, rows = _rows(tmp_path / "out")
    assert ids.keys() == {*OLD, *NEW[3:]}
    assert torch.equal(rows[ids["jua"]], _rows(other)[1][_rows(other)[0]["jua"]])


def test_a_tokenizer_of_none_of_the_models_is_refused(make, tmp_path) -> None:
    with pytest.raises(UserError, match="it is none of the models"):
        merge.soup([make("one", OLD)], tmp_path / "out", tokenizer=tmp_path / "other")


def test_without_a_tokenizer_equal_rows_are_matched_by_position_and_others_refused(make, tmp_path, caplog) -> None:
    one, other, grown = make("one", OLD, seed=1), make("other", OLD, seed=2), make("grown", [*OLD, *NEW], seed=3)
    for path in one.glob("tokenizer*"):
        path.unlink()
    with caplog.at_level("WARNING", logger="lingraft"):
        merge.soup([one, other], tmp_path / "out", dtype="float32")
    assert "matched by position" in caplog.text
    assert torch.equal(_rows(tmp_path / "out")[1], (_rows(other)[1] + _embeddings(one)) / 2)
    with pytest.raises(ModelError, match="has no tokenizer, and the parents have different numbers of rows"):
        merge.soup([one, grown], tmp_path / "other-out")


def _embeddings(folder: Path) -> torch.Tensor:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).model.embed_tokens.weight.detach()


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_ties_and_dare_take_new_rows_from_the_models_that_have_them(make, tmp_path, method) -> None:
    base = make("base", OLD, seed=1)
    adapted = {make("a", [*NEW, *OLD], seed=2): 0.5, make("b", OLD, seed=3): 0.5}
    getattr(merge, method)(base, adapted, tmp_path / "out", density=0.5)
    ids, rows = _rows(tmp_path / "out")
    grown_ids, grown_rows = _rows(tmp_path / "a")
    for token in NEW:
        assert torch.equal(rows[ids[token]], grown_rows[grown_ids[token]])
    assert not torch.equal(rows[ids["water"]], grown_rows[grown_ids["water"]])
