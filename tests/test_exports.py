"""Models with added weights leave a run in forms that others load: native, with their own code, as a PEFT folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import lingraft
from lingraft.checkpoints.export import probe_logits
from lingraft.checkpoints.read import read_model
from lingraft.errors import RecipeError
from lingraft.methods import METHODS

FORMS = {
    "wide-ffn": {"name": "adapters"},
    "qwen2-moe": {"name": "neutral-residues", "gate": "sigmoid", "loss": "ce"},
    "remote-code": {"name": "neutral-residues"},
}


pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("exports")]  # one run of a form serves many tests


@pytest.fixture(scope="module")
def base(shared_recipe) -> Path:
    return Path(shared_recipe["base"])


@pytest.fixture(scope="module")
def spanish(shared_recipe) -> str:
    return shared_recipe["evaluation"]["text"]["spa_Latn"]


@pytest.fixture(scope="module")
def exported(shared_recipe, spanish, tmp_path_factory):
    """A factory of finished runs of a method with old text, in its default form; tests leave them as they are."""
    english = shared_recipe["evaluation"]["text"]["eng_Latn"]
    old_text = {"language": "eng_Latn", "files": english, "share": 0.1, "max_epochs": 9}
    recipe = {**shared_recipe, "corpus": [*shared_recipe["corpus"], old_text]}
    recipe["evaluation"] = {**recipe["evaluation"], "text": {"eng_Latn": spanish, "spa_Latn": spanish}}
    root = tmp_path_factory.mktemp("exported")

    def build(form: str) -> Path:
        if not (root / form).exists():
            assert lingraft.run({**recipe, "method": FORMS[form]}, root / form)["learning"] > 0
        return root / form

    return build


def adapted_logits(out: Path, base: Path) -> torch.Tensor:
    from peft import PeftModel

    model = PeftModel.from_pretrained(read_model(base, torch.float32), out / "adapter")
    return probe_logits(model, model.config)


@pytest.mark.parametrize("form", ["wide-ffn", "qwen2-moe"])
def test_a_fold_loads_with_plain_transformers(exported, base, form) -> None:
    out = exported(form)
    for folder, tolerance in ((out / "work/adapted/model", 1e-5), (out / "model", 0.05)):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        assert model.config.model_type == {"wide-ffn": "llama", "qwen2-moe": "qwen2_moe"}[form]
        torch.testing.assert_close(probe_logits(model, model.config), adapted_logits(out, base), atol=tolerance, rtol=0)


def test_a_qwen2_moe_has_a_head_of_its_own_for_llama_cpp(make_model) -> None:
    model = make_model(tied=True)
    table = model.get_input_embeddings().weight.clone()
    exported = METHODS["neutral-residues"](rank=4, gate="sigmoid", loss="ce").apply(model).exports["qwen2-moe"]()
    assert not exported.config.tie_word_embeddings
    assert exported.lm_head.weight is not exported.model.embed_tokens.weight
    assert torch.equal(exported.lm_head.weight, table)


def test_a_qwen2_moe_of_a_llama_has_biases_of_zero_for_vllm(make_model) -> None:
    exported = METHODS["neutral-residues"](rank=4, gate="sigmoid", loss="ce").apply(make_model()).exports["qwen2-moe"]()
    biases = [weight for name, weight in exported.state_dict().items() if name.endswith("_proj.bias")]
    assert len(biases) == 3 * exported.config.num_hidden_layers
    assert not any(bias.any() for bias in biases)


def test_a_relu_gate_travels_with_its_code_and_needs_nothing_of_ours(exported, base, tmp_path) -> None:
    out = exported("remote-code")
    torch.save(adapted_logits(out, base), tmp_path / "expected.pt")
    program = f"""
import sys, torch
sys.modules["lingraft"] = None  # an import of it fails
from transformers import AutoModel, AutoModelForCausalLM
for folder, tolerance in (({str(out / "work/adapted/model")!r}, 1e-5), ({str(out / "model")!r}, 0.05)):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    ids = torch.arange(64).mul(7919).remainder(258)[None]
    logits = model(input_ids=ids, use_cache=False).logits
    assert (logits - torch.load({str(tmp_path / "expected.pt")!r})).abs().max() < tolerance
    assert model.generate(ids[:, :4], max_new_tokens=3, do_sample=False).shape[1] > 4
    body = AutoModel.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    assert torch.equal(model.lm_head(body(input_ids=ids, use_cache=False).last_hidden_state), logits)
model.save_pretrained({str(tmp_path / "again")!r})
AutoModelForCausalLM.from_pretrained({str(tmp_path / "again")!r}, trust_remote_code=True)
"""
    environment = {
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_OFFLINE": "1",
        "PATH": "",
        "HOME": str(tmp_path),
    }
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=300)


def test_an_export_with_code_is_measured_by_our_own_code_alone(exported, spanish, tmp_path) -> None:
    out = exported("remote-code")
    model = shutil.copytree(out / "model", tmp_path / "model")
    for file in model.glob("*.py"):
        file.write_text("raise SystemExit('this must not run')")
    results = lingraft.evaluate(model, text={"spa_Latn": spanish}, out=tmp_path / "r.json")
    after = json.loads((out / "results.json").read_text())["languages"]["spa_Latn"]["bits_per_byte"]["after"]
    assert results["languages"]["spa_Latn"]["bits_per_byte"]["after"] == pytest.approx(after, abs=0.05)


def test_an_exported_model_is_no_base(exported, recipe, tmp_path) -> None:
    recipe["method"] = {"name": "full"}
    with pytest.raises(
        RecipeError, match="a 'qwen2_moe' is what lingraft exports; it can be measured, and not trained"
    ):
        lingraft.run({**recipe, "base": str(exported("qwen2-moe") / "model")}, tmp_path / "more")


@pytest.mark.parametrize("before", ["import peft, lingraft", "import lingraft, peft", "import lingraft"])
def test_an_adapter_loads_with_peft_once_lingraft_is_imported(exported, base, before) -> None:
    """Also where transformers has looked for peft, without loading it, in between."""
    out = exported("remote-code")
    program = f"""
{before}
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({str(base)!r})
from peft import PeftModel
model = PeftModel.from_pretrained(model, {str(out / "adapter")!r})
assert any("gated_adapter" in name for name, _ in model.named_parameters())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


def test_importing_lingraft_loads_neither_torch_nor_peft() -> None:
    program = "import sys, lingraft; assert not {'torch', 'peft', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
