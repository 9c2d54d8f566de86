"""What is written beside weights is what the base had: config key by key, all other files byte for byte."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import lingraft
from lingraft.checkpoints.export import probe_logits, round_weights, write_model
from lingraft.checkpoints.read import read_model
from lingraft.methods import METHODS

pytestmark = pytest.mark.integration

OWN = {"wide-ffn": {"intermediate_size"}, "remote-code": {"model_type", "architectures", "auto_map", "gated_adapter"}}
OF_MOE = {
    *("model_type", "architectures", "num_experts", "num_experts_per_tok", "norm_topk_prob", "decoder_sparse_step"),
    *(
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
        "mlp_only_layers",
        "qkv_bias",
        "output_router_logits",
    ),
    *("router_aux_loss_coef", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types"),
}
OWN["qwen2-moe"] = OF_MOE
COPIED = ("generation_config.json", "LICENSE", "preprocessor_config.json", "tokenizer.json", "special.jinja")
METHOD_FORMS = [
    ({"name": "full"}, "plain"),
    ({"name": "layra", "first": 2, "last": 1, "rank": 2}, "plain"),
    ({"name": "lora-ffn"}, "plain"),
    ({"name": "adapters"}, "wide-ffn"),
    ({"name": "adapters"}, "remote-code"),
    ({"name": "neutral-residues", "gate": "sigmoid", "loss": "ce"}, "qwen2-moe"),
    ({"name": "neutral-residues"}, "remote-code"),
]


def as_earlier_transformers_wrote(folder: Path) -> dict:
    """The folder's config in the words of transformers 4, with a key that nobody knows; what lies beside it too."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    inner = config.get("text_config", config)
    rope = inner.pop("rope_parameters")
    inner |= {"rope_theta": rope.get("rope_theta", 10000.0), "rope_scaling": None} if "rope_theta" in rope else {}
    for of in (config, inner):
        if "dtype" in of:
            of["torch_dtype"] = of.pop("dtype")
    config |= {"use_cache": True, "of_another_program": [1, 2], "transformers_version": "4.40.0"}
    path.write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "top_p": 0.9, "eos_token_id": [257]}')
    (folder / "LICENSE").write_text("free")
    (folder / "special.jinja").write_text("{{ messages }}")
    (folder / "preprocessor_config.json").write_text('{"size": 1}')
    return config


def differing(one: dict, other: dict) -> set[str]:
    return {key for key in {*one, *other} if one.get(key, ...) != other.get(key, ...)}


@pytest.fixture
def earlier(base) -> Path:
    as_earlier_transformers_wrote(base)
    return base


@pytest.mark.parametrize(("settings", "form"), METHOD_FORMS, ids=[f"{of['name']}-{form}" for of, form in METHOD_FORMS])
def test_an_export_has_the_bases_config_but_for_what_the_method_changes(earlier, settings, form, tmp_path) -> None:
    model = read_model(earlier, torch.bfloat16)
    exported = round_weights(METHODS[settings["name"]](**settings).apply(model).exports[form](), torch.bfloat16)
    (tmp_path / "out").mkdir()
    write_model(exported, earlier, tmp_path / "out")
    own, base = (json.loads((of / "config.json").read_text()) for of in (tmp_path / "out", earlier))
    assert differing(own, base) <= OWN.get(form, set())
    for name in COPIED:
        assert (tmp_path / "out" / name).read_bytes() == (earlier / name).read_bytes()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert loaded.dtype == torch.bfloat16
    assert loaded.config.use_cache
    assert torch.equal(probe_logits(loaded, loaded.config), probe_logits(exported, exported.config))


@pytest.mark.parametrize("architecture", ["gemma3", "gemma3_text", "qwen2"])
def test_a_wide_export_of_every_architecture_changes_one_key(make_model, tokenizer, architecture, tmp_path) -> None:
    make_model(architecture).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = json.loads((tmp_path / "base/config.json").read_text())
    exported = METHODS["adapters"](name="adapters").apply(read_model(tmp_path / "base")).exports["wide-ffn"]()
    (tmp_path / "out").mkdir()
    write_model(exported, tmp_path / "base", tmp_path / "out")
    own = json.loads((tmp_path / "out/config.json").read_text())
    if "text_config" in base:
        assert differing(own, base) == {"text_config"}
        own, base = own["text_config"], base["text_config"]
    assert differing(own, base) == {"intermediate_size"}
    loaded = read_model(tmp_path / "out")
    assert torch.equal(probe_logits(loaded, loaded.config), probe_logits(exported, exported.config))


def test_a_run_leaves_the_bases_files_and_a_model_that_generates_with_a_cache(recipe, earlier, tmp_path) -> None:
    recipe["training"] |= {"gradient_checkpointing": True, "max_steps": 2}
    before = os.umask(0o002)
    try:
        lingraft.run(recipe, tmp_path / "out")
    finally:
        os.umask(before)
    model = tmp_path / "out/model"
    assert json.loads((model / "config.json").read_text()) == json.loads((earlier / "config.json").read_text())
    for name in (*COPIED, "tokenizer_config.json"):
        assert (model / name).read_bytes() == (earlier / name).read_bytes(), name
    for folder in (model, tmp_path / "out/adapter"):
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o664}
    loaded = AutoModelForCausalLM.from_pretrained(model)
    made = loaded.generate(
        torch.arange(5)[None], max_new_tokens=3, do_sample=False, eos_token_id=None, return_dict_in_generate=True
    )
    assert made.past_key_values is not None


def test_a_merge_and_more_tokens_keep_the_bases_config(family, tmp_path) -> None:
    configs = {name: as_earlier_transformers_wrote(folder) for name, folder in family.items()}
    lingraft.merge.vectors(family["base"], {family["a"]: 0.5}, tmp_path / "sum")
    assert json.loads((tmp_path / "sum/config.json").read_text()) == configs["base"]
    (tmp_path / "text.txt").write_text("watu nyumba maji moto " * 50)
    lingraft.tokenizer.extend(family["base"], str(tmp_path / "text.txt"), 3, tmp_path / "more")
    more = json.loads((tmp_path / "more/config.json").read_text())
    assert differing(more, configs["base"]) == {"vocab_size"}
    for folder in (tmp_path / "sum", tmp_path / "more"):
        for name in set(COPIED) - {"tokenizer.json"}:
            assert (folder / name).read_bytes() == (family["base"] / name).read_bytes()


def test_a_config_names_no_place_and_no_code_that_is_not_there(earlier, tmp_path) -> None:
    path, described = earlier / "config.json", earlier / "tokenizer_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "_name_or_path": str(earlier), "auto_map": {"AutoModel": "x.Y"}})
    )
    described.write_text(json.dumps({**json.loads(described.read_text()), "name_or_path": str(earlier)}))
    (tmp_path / "out").mkdir()
    write_model(read_model(earlier), earlier, tmp_path / "out")
    lingraft.merge.soup([earlier], tmp_path / "soup")
    for folder in (tmp_path / "out", tmp_path / "soup"):
        assert not {"_name_or_path", "auto_map"} & json.loads((folder / "config.json").read_text()).keys()
        assert "name_or_path" not in json.loads((folder / "tokenizer_config.json").read_text())
