"""The card of a run's model: what was measured, how to load it, whose licence, and nothing of this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import lingraft

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("model card")]  # one run serves all tests


@pytest.fixture(scope="module")
def done(shared_recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    recipe = {**shared_recipe, "training": {**shared_recipe["training"], "max_steps": 2}}
    (Path(recipe["base"]) / "README.md").write_text("---\nlicense: apache-2.0\n---\n# The base\n")
    recipe["corpus"] = [{**recipe["corpus"][0], "license": "CC-BY-4.0 | ours"}]
    lingraft.run(recipe, out)
    return out


@pytest.fixture(scope="module")
def card(done) -> ModelCard:
    return ModelCard.load(done / "model/README.md")


def test_its_table_has_what_was_measured(done, card) -> None:
    results = json.loads((done / "results.json").read_text())
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.text.splitlines() if line[:1] == "|"]
    shown = {row[0]: row[1:] for row in rows[2:]}
    for code, measured in results["languages"].items():
        bits = measured["bits_per_byte"]
        row = next(row for name, row in shown.items() if code.replace("_", "\\_") in name)
        assert row[0] == measured["role"]
        assert row[2:5] == [f"{bits['before']:.4f}", f"{bits['after']:.4f}", f"{bits['delta']:+.4f}"]


def test_the_hub_reads_its_front_matter(done, card) -> None:
    data = card.data.to_dict()
    assert (data["license"], data["language"], data["library_name"]) == (
        "apache-2.0",
        ["swh", "eng", "spa"],
        "transformers",
    )
    results = json.loads((done / "results.json").read_text())
    found = {result.dataset_config: result.metric_value for result in card.data.eval_results}
    assert found == {
        code: round(measured["bits_per_byte"]["after"], 4) for code, measured in results["languages"].items()
    }


def test_its_code_loads_the_model(done, card) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.S)
    names: dict[str, object] = {}
    exec(code.replace("this-folder", str(done / "model")), names)
    assert names["model"].config.model_type == "llama"


def test_it_names_licences_and_the_origin(done, card) -> None:
    assert "apache-2.0" in card.text.partition("## Licence")[2]
    assert "CC-BY-4.0 \\| ours" in card.text
    fingerprint = json.loads((done / "lingraft.json").read_text())["base"]["fingerprint"]
    assert fingerprint in card.text
    assert str(done.parent) not in card.text


def test_a_modelfile_for_ollama_lies_beside_it(done) -> None:
    assert (done / "model/Modelfile").read_text().splitlines()[1] == "FROM ."
