"""`lingraft tokenizer` as a user meets it: a model with new tokens, and what its tokenizer makes of languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    ByT5Tokenizer,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

import lingraft
from command_line import Command, command
from lingraft.errors import ModelError, OutputError, UserError
from lingraft.vocabulary import INITS
from vocabulary.families import ENGLISH, PERSIAN, gemma, gpt2, llama2, llama3, qwen, sentences

pytestmark = pytest.mark.integration

NUMBER = 40


@pytest.fixture
def persian(tmp_path) -> Path:
    path = tmp_path / "persian.txt"
    path.write_text("\n".join(sentences(PERSIAN, 200)))
    return path


def write_base(folder: Path, make_model, architecture="llama", tied=False, rows=320, core=gpt2) -> Path:
    tokenizer = core()
    model = make_model(architecture, tied, vocab_size=rows, bos_token_id=0, eos_token_id=1, pad_token_id=None)
    model.to(torch.bfloat16).save_pretrained(folder)
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1]).save_pretrained(
        folder
    )
    return folder


def logits(folder: Path, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(torch.tensor([ids])).logits


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3_text", "gemma3"])
def test_old_text_has_the_same_logits_over_old_tokens(tmp_path, make_model, persian, architecture, tied) -> None:
    base = write_base(tmp_path / "base", make_model, architecture, tied, rows=384)
    out = lingraft.tokenizer.extend(base, str(persian), 70, tmp_path / "out")
    ids = AutoTokenizer.from_pretrained(base)("people house water").input_ids
    assert AutoTokenizer.from_pretrained(out)("people house water").input_ids == ids
    before, after = logits(base, ids), logits(out, ids)
    assert torch.equal(after[..., :320], before[..., :320])
    assert after.shape[-1] == 512  # the next multiple of 128, as 384 is one
    assert after.isfinite().all()
    model = AutoModelForCausalLM.from_pretrained(out)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


def test_new_tokens_take_padding_first_and_nothing_is_cut(tmp_path, make_model, persian) -> None:
    """322 tokens of llama3 in 384 rows: 40 more fit."""
    base = write_base(tmp_path / "base", make_model, rows=384, core=llama3)
    out = lingraft.tokenizer.extend(base, str(persian), NUMBER, tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, out))
    assert after.keys() == before.keys()
    for name, weight in before.items():
        assert after[name].shape == weight.shape
        new = slice(322, 322 + NUMBER) if name in ("model.embed_tokens.weight", "lm_head.weight") else slice(0)
        weight[new] = after[name][new]
        assert torch.equal(after[name], weight)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 384


@pytest.mark.parametrize("init", INITS)
def test_rows_are_what_their_init_says(tmp_path, make_model, persian, init) -> None:
    base = write_base(tmp_path / "base", make_model)
    out = lingraft.tokenizer.extend(base, str(persian), NUMBER, tmp_path / "out", init=init)
    tokenizer, old = AutoTokenizer.from_pretrained(out), AutoTokenizer.from_pretrained(base)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        before = load_file(base / "model.safetensors")[name].float()
        after = load_file(out / "model.safetensors")[name].float()
        texts = {token: tokenizer.decode([token]) for token in range(320, 320 + NUMBER)}
        for token, text in texts.items():
            if "\ufffd" in text:  # half a letter
                continue
            pieces = before[old(text).input_ids].mean(0)
            wanted = {
                "mean": before.mean(0),
                "subtoken-mean": pieces,
                "subtoken-mean-norm": pieces / pieces.norm() * before.norm(dim=1).median(),  # no Arabic letter is known
            }[init]
            assert torch.allclose(after[token], wanted, atol=2e-2 * float(wanted.abs().max()))


def test_the_norm_is_that_of_the_script(tmp_path, make_model) -> None:
    """A base that knows Persian: its Arabic rows are made ten times as long, and so are those of new Persian tokens."""
    known, more = tmp_path / "known.txt", tmp_path / "more.txt"
    known.write_text("\n".join(sentences(PERSIAN, 100)))
    more.write_text("\n".join(sentences(" ".join(word * 2 for word in PERSIAN.split()), 200)))
    base = write_base(tmp_path / "base", make_model)
    persian = lingraft.tokenizer.extend(base, str(known), NUMBER, tmp_path / "persian")
    weights = load_file(persian / "model.safetensors")
    rows = slice(320, 320 + NUMBER)
    weights["model.embed_tokens.weight"][rows] *= 10
    save_file(weights, persian / "model.safetensors", {"format": "pt"})
    out = lingraft.tokenizer.extend(persian, str(more), 10, tmp_path / "out", init="subtoken-mean-norm")
    norms = load_file(out / "model.safetensors")["model.embed_tokens.weight"].float().norm(dim=1)
    new = norms[320 + NUMBER : 330 + NUMBER]
    assert (new > 3 * norms[:320].median()).all()


@pytest.mark.parametrize(
    ("config", "core", "name"),
    [
        (MistralConfig, llama2, "LlamaTokenizer"),
        (LlamaConfig, llama2, "LlamaTokenizerFast"),
        (MistralConfig, gpt2, "PreTrainedTokenizerFast"),
        (Olmo2Config, gpt2, "GPT2Tokenizer"),
        (Qwen2Config, qwen, "Qwen2TokenizerFast"),
        (GemmaConfig, gemma, "GemmaTokenizer"),
    ],
)
def test_what_transformers_makes_of_the_result_is_what_was_meant(tmp_path, persian, config, core, name) -> None:
    """Its classes build tokenizers of their own, chosen by the tokenizer's config or by the model's."""
    base, tokenizer = tmp_path / "base", core()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    settings = config(vocab_size=512, num_key_value_heads=1, head_dim=16, pad_token_id=None, **small)
    AutoModelForCausalLM.from_config(settings).save_pretrained(base)
    tokenizer.save(str(base / "tokenizer.json"))
    names = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    special = {"bos_token": names[-2], "eos_token": names[-1], "unk_token": names[0]}
    (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **special}))
    out = lingraft.tokenizer.extend(base, str(persian), NUMBER, tmp_path / "out")
    before, after = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(out)
    assert len(after) == len(before) + NUMBER
    for text in sentences(ENGLISH, 20):
        assert after(text).input_ids == before(text).input_ids
    for text in sentences(PERSIAN, 20):
        assert len(after(text).input_ids) < len(before(text).input_ids) / 2
        assert after.decode(after(text, add_special_tokens=False).input_ids) == text


def test_what_lies_beside_the_weights_goes_along_and_stale_forms_of_the_tokenizer_do_not(
    tmp_path, make_model, persian
) -> None:
    base = write_base(tmp_path / "base", make_model)
    for name in ("LICENSE", "chat_template.jinja", "generation_config.json", "merges.txt", "tokenizer.model.v3"):
        (base / name).write_text("{}")
    out = lingraft.tokenizer.extend(base, str(persian), NUMBER, tmp_path / "out")
    written = {path.name for path in out.iterdir()}
    assert {"LICENSE", "chat_template.jinja", "generation_config.json"} < written
    assert not {"merges.txt", "tokenizer.model.v3"} & written


def test_more_tokens_than_rows_are_refused(tmp_path, make_model, persian) -> None:
    base = write_base(tmp_path / "base", make_model, rows=320, core=llama3)
    with pytest.raises(ModelError, match="has ids up to 321, its embeddings have 320 rows"):
        lingraft.tokenizer.extend(base, str(persian), NUMBER, tmp_path / "out")


def test_an_adapter_and_a_folder_that_is_read_are_refused(tmp_path, make_model, persian) -> None:
    base = write_base(tmp_path / "base", make_model)
    with pytest.raises(OutputError, match="which is read"):
        lingraft.tokenizer.extend(base, str(persian), NUMBER, base)
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules=["q_proj"]))
    adapter.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match="is an adapter"):
        lingraft.tokenizer.extend(tmp_path / "adapter", str(persian), NUMBER, tmp_path / "out")


def test_another_field_of_the_text_is_another_extension(tmp_path, make_model) -> None:
    records = [
        {"text": a, "other": b} for a, b in zip(sentences(PERSIAN, 200), sentences("αβγ δεζ ηθι", 200), strict=True)
    ]
    text = tmp_path / "text.jsonl"
    text.write_text("\n".join(map(json.dumps, records)))
    base = write_base(tmp_path / "base", make_model)
    lingraft.tokenizer.extend(base, str(text), 10, tmp_path / "out")
    out = lingraft.tokenizer.extend(base, str(text), 10, tmp_path / "out", text_field="other")
    assert "ηθι" in AutoTokenizer.from_pretrained(out).decode(range(320, 330))


def test_started_again_it_keeps_what_is_there_and_refuses_another_folder(tmp_path, make_model, persian) -> None:
    base = write_base(tmp_path / "base", make_model)
    out = lingraft.tokenizer.extend(base, str(persian), NUMBER, tmp_path / "out")
    written = (out / "model.safetensors").stat().st_mtime_ns
    lingraft.tokenizer.extend(base, str(persian), NUMBER, out)
    assert (out / "model.safetensors").stat().st_mtime_ns == written
    lingraft.tokenizer.extend(base, str(persian), NUMBER + 1, out)
    assert len(AutoTokenizer.from_pretrained(out)) == 320 + NUMBER + 1
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="not an earlier extension"):
        lingraft.tokenizer.extend(base, str(persian), NUMBER, persian.parent / "thesis")


def test_the_extended_model_takes_part_in_merges_by_token(tmp_path, make_model, persian) -> None:
    base = write_base(tmp_path / "base", make_model)
    out = lingraft.tokenizer.extend(base, str(persian), NUMBER, tmp_path / "out")
    merged = lingraft.merge.soup([base, out], tmp_path / "merged")
    before, after = (load_file(folder / "model.safetensors") for folder in (out, merged))
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_wrong_input_is_refused_before_anything_is_written(tmp_path, make_model, persian) -> None:
    base, out = write_base(tmp_path / "base", make_model), tmp_path / "out"
    with pytest.raises(UserError, match=r"--init subtoken-meen.*did you mean 'subtoken-mean'"):
        lingraft.tokenizer.extend(base, str(persian), NUMBER, out, init="subtoken-meen")
    with pytest.raises(UserError, match="--tokens 0"):
        lingraft.tokenizer.extend(base, str(persian), 0, out)
    with pytest.raises(UserError, match="no file matches"):
        lingraft.tokenizer.extend(base, str(tmp_path / "none.txt"), NUMBER, out)
    with pytest.raises(ModelError, match="no such folder"):
        lingraft.tokenizer.extend(tmp_path / "none", str(persian), NUMBER, out)
    assert not out.exists()


def test_fertility_counts_what_the_tokenizer_says_and_warns(tmp_path, make_model, persian, caplog) -> None:
    base = write_base(tmp_path / "base", make_model)
    english = tmp_path / "english.txt"
    english.write_text("\n".join(sentences(ENGLISH, 50)))
    text = {"eng_Latn": str(english), "pes_Arab": str(persian)}
    with caplog.at_level("WARNING", logger="lingraft"):
        measured = lingraft.tokenizer.fertility([base], text, out=tmp_path / "fertility.json")
    assert json.loads((tmp_path / "fertility.json").read_text()) == measured
    of = measured["models"][str(base)]
    tokenizer = AutoTokenizer.from_pretrained(base)
    whole = persian.read_text()
    assert of["pes_Arab"]["words"] == len(whole.split())
    assert of["pes_Arab"]["tokens_per_word"] == pytest.approx(
        len(tokenizer(whole).input_ids) / len(whole.split()), rel=0.02
    )
    assert of["pes_Arab"]["byte_share"] > 0.8
    assert of["eng_Latn"]["byte_share"] == 0
    assert of["eng_Latn"]["cost"] == 1
    assert of["pes_Arab"]["cost"] > 2
    assert [record.args[1] for record in caplog.records] == ["pes_Arab"]


def test_fertility_counts_all_of_a_text_whatever_the_file_says_of_its_length(tmp_path, make_model, persian) -> None:
    def short() -> Tokenizer:
        tokenizer = gpt2()
        tokenizer.enable_truncation(4)
        tokenizer.enable_padding(length=4)
        return tokenizer

    bases = [
        write_base(tmp_path / "a", make_model),
        write_base(tmp_path / "b", make_model, core=short),
    ]
    measured = lingraft.tokenizer.fertility(bases, {"pes_Arab": str(persian)})["models"]
    assert measured[str(bases[0])] == measured[str(bases[1])]


def test_fertility_warns_of_text_that_cannot_be_written(tmp_path, make_model, persian, caplog) -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["[UNK]", "[END]"])
    base = write_base(tmp_path / "base", make_model, core=lambda: words)
    with caplog.at_level("WARNING", logger="lingraft"):
        measured = lingraft.tokenizer.fertility([base], {"pes_Arab": str(persian)})
    assert measured["models"][str(base)]["pes_Arab"]["unknown_share"] == 1
    assert "cannot encode pes_Arab: 100 %" in caplog.text


def test_a_tokenizer_that_is_none_of_the_library_is_refused(tmp_path, persian) -> None:
    ByT5Tokenizer().save_pretrained(tmp_path / "byt5")
    with pytest.raises(ModelError, match=r"ByT5Tokenizer\) is Python code of its own"):
        lingraft.tokenizer.fertility([tmp_path / "byt5"], {"pes_Arab": str(persian)})


def test_the_command_line_does_both(tmp_path, make_model, persian) -> None:
    base = write_base(tmp_path / "base", make_model)
    out, said = command("tokenizer", "fertility", base, "--text", f"pes_Arab={persian}")
    assert "pes_Arab" in out
    assert "over-segments pes_Arab" in said
    extend = ["tokenizer", "extend", base, "--text", persian, "--tokens", 40, "--out", tmp_path / "out"]
    command(*extend)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 360
    code, _, said = Command(*extend, "--init", "zero").end()
    assert code == 2
    assert "allowed are mean, subtoken-mean, subtoken-mean-norm" in said
