"""What a run, a merge and an extension leave for others says nothing of the machine that it was made on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import AutoTokenizer

import lingraft
from lingraft.checkpoints.names import public_name, without_places
from lingraft.checkpoints.read import read_model

pytestmark = pytest.mark.integration

PUBLISHED = ("model", "adapter", "lingraft.json", "results.json", "training.json", "report.html")


def holding(folders: list[Path], word: str) -> list[str]:
    files = [path for folder in folders for path in ([folder] if folder.is_file() else folder.rglob("*"))]
    return [str(path) for path in files if path.is_file() and word.encode() in path.read_bytes()]


@pytest.mark.parametrize("gated", [False, True], ids=["lora", "gated"])
def test_no_path_of_the_machine_in_anything_published(recipe, base, texts, tmp_path, gated) -> None:
    recipe["training"]["max_steps"] = 2
    out = tmp_path / "out"
    if gated:
        recipe["method"] = {"name": "adapters", "rank": 3}
    else:
        recipe["merge"] = [{"vectors": {str(base): 0.5}}]
    lingraft.run(recipe, out)
    assert holding([out / name for name in PUBLISHED], tmp_path.name) == []
    assert json.loads((out / "results.json").read_text())["base"] == "base"
    assert yaml.safe_load((out / "recipe.resolved.yaml").read_text())["base"] == str(base)  # the user's own: it resumes

    card = ModelCard.load(out / "adapter/README.md")
    assert "base with swh\\_Latn" in card.content
    assert "More Information Needed" not in card.content
    assert card.data.library_name == ("lingraft" if gated else "peft")
    assert ("import lingraft" in card.content) == gated
    assert AutoTokenizer.from_pretrained(out / "adapter")("maji").input_ids
    PeftModel.from_pretrained(read_model(base, torch.float32), out / "adapter")

    results = lingraft.evaluate(out / "model", {"spa_Latn": str(texts["spa_Latn"])}, against=base)
    assert (results["model"], results["base"]) == ("out", "base")


def test_an_adapter_is_merged_with_its_base_by_fingerprint(recipe, base, make_model, tokenizer, tmp_path) -> None:
    recipe["training"]["max_steps"] = 2
    out = tmp_path / "out"
    lingraft.run(recipe, out)
    lingraft.merge.soup([out / "adapter"], tmp_path / "soup")  # its run knows the base
    moved = (out / "adapter").rename(tmp_path / "moved")
    lingraft.merge.vectors(base, {moved: 0.5}, tmp_path / "sum")
    lingraft.merge.vectors(base, {moved: 0.5}, tmp_path / "low", adapter=True)
    assert holding([tmp_path / name for name in ("soup", "sum", "low")], tmp_path.name) == []
    assert AutoTokenizer.from_pretrained(tmp_path / "low")("maji").input_ids
    lingraft.merge.vectors(base, {tmp_path / "low": 1.0}, tmp_path / "again")
    other = tmp_path / "elsewhere" / "base"
    make_model(max_position_embeddings=32).save_pretrained(other)
    tokenizer.save_pretrained(other)
    with pytest.raises(lingraft.errors.ModelError, match="the base that this adapter names cannot be had"):
        lingraft.merge.vectors(other, {moved: 0.5}, tmp_path / "wrong")


def test_an_extension_names_no_path(base, tmp_path) -> None:
    (tmp_path / "text.txt").write_text("watu nyumba maji moto " * 50)
    lingraft.tokenizer.extend(base, str(tmp_path / "text.txt"), 3, tmp_path / "more")
    assert holding([tmp_path / "more"], tmp_path.name) == []


def test_a_name_with_marks_stays_one_cell_of_a_cards_table(base, tmp_path) -> None:
    strange = base.rename(tmp_path / "a|b`c<i>*d*\ne")
    lingraft.merge.soup([strange], tmp_path / "soup")
    card = (tmp_path / "soup/README.md").read_text()
    (row,) = [line for line in card.splitlines() if line.startswith("| a")]
    assert row.replace("\\|", "").count("|") == 5
    assert "a\\|b\\`c\\<i\\>\\*d\\* e" in row
    ModelCard.load(tmp_path / "soup/README.md")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("google/gemma-2b", "google/gemma-2b"),
        ("gpt2", "gpt2"),
        ("/home/somebody/models/base", "base"),
        ("/home/somebody/runs/swahili/model", "swahili"),
        ("/c/hub/models--google--gemma-2b/snapshots/0123", "google/gemma-2b"),
        ("~/base", "base"),
    ],
)
def test_a_place_has_a_name(given, name) -> None:
    assert public_name(given) == name
    assert without_places({given: [given]}) == {name: [name]}
