"""The testbed's base, with training cut to a few steps: what is kept, and for what."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from lingraft.checkpoints.read import empty_model
from lingraft.corpus.read import read_texts
from lingraft.disk import locked
from lingraft.errors import OutputError
from lingraft.synthetic import base as module
from lingraft.synthetic import cache_folder, files, trained_base, training_file, write_testbed

pytestmark = pytest.mark.integration


@pytest.fixture
def small(monkeypatch, tmp_path) -> Path:
    """Testbed files, and settings under which a base is made in a second."""
    monkeypatch.setattr(files, "TRAINING_DOCUMENTS", 200)
    monkeypatch.setattr(module, "SHAPE", {**module.SHAPE, "vocab_size": 300, "num_hidden_layers": 2})
    monkeypatch.setattr(module, "TRAINING", module.TRAINING._replace(steps=6))
    write_testbed(tmp_path / "files", seed=0)
    return tmp_path / "files"


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def test_the_same_text_and_seed_make_the_same_base(small, tmp_path) -> None:
    one, other = (trained_base(small, tmp_path / name, seed=0) for name in ("one", "other"))
    assert digest(one) == digest(other)
    assert one.name == other.name


def test_a_base_is_trained_once(small, tmp_path, monkeypatch) -> None:
    made = trained_base(small, tmp_path / "cache", seed=0)
    monkeypatch.setattr(module, "_train", lambda *arguments: pytest.fail("trained again"))
    assert trained_base(small, tmp_path / "cache", seed=0) == made


@pytest.mark.parametrize("changed", ["seed", "text", "settings"])
def test_another_world_or_setting_has_another_base(small, tmp_path, monkeypatch, changed) -> None:
    made = trained_base(small, tmp_path / "cache", seed=0)
    seed = 0
    if changed == "seed":
        seed = 1
    elif changed == "text":
        with training_file(small, "qaa_Latn").open("a") as file:
            file.write('{"text": "x"}\n')
    else:
        monkeypatch.setattr(module, "TRAINING", module.TRAINING._replace(steps=5))
    other = trained_base(small, tmp_path / "cache", seed)
    assert other != made
    assert digest(other)["model.safetensors"] != digest(made)["model.safetensors"]


def test_it_is_a_plain_llama_that_reads_and_writes_its_languages(small, tmp_path) -> None:
    folder = trained_base(small, tmp_path / "cache", seed=0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "llama"
    assert not model.config.tie_word_embeddings
    for text in read_texts(training_file(small, "qac_Cyrl"))[:20]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_two_processes_do_not_train_it_at_once(small, tmp_path) -> None:
    with locked(tmp_path / "cache"), pytest.raises(OutputError, match="another process trains a testbed's base; wait"):
        trained_base(small, tmp_path / "cache", seed=0)


def test_the_shipped_base_has_six_layers_and_less_than_a_million_parameters() -> None:
    model = empty_model(LlamaConfig(**module.SHAPE))
    assert len(model.get_decoder().layers) == 6
    assert 5e5 < sum(parameter.numel() for parameter in model.parameters()) < 1e6


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("LINGRAFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "lingraft"
