"""A merge or an extension that is started again keeps only what is as it was written, and of parents that stayed."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import torch

import lingraft
from lingraft.errors import UserError

pytestmark = pytest.mark.integration

merge, tokenizer = (importlib.import_module(f"lingraft.{name}") for name in ("merging.methods", "vocabulary.tokenizer"))


@pytest.fixture
def other(base, make_model, tmp_path) -> Path:
    model = make_model().to(torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    model.save_pretrained(tmp_path / "other")
    return tmp_path / "other"


@pytest.fixture(params=["merge", "extension"])
def command(request, base, other, texts, tmp_path):
    """A command, the model that it reads, the module that it is in and what writes its weights."""
    out = tmp_path / "out"
    if request.param == "merge":
        return lambda: lingraft.merge.soup({base: 1.0, other: 1.0}, out), other, merge, "write_combination"
    extend = lambda: lingraft.tokenizer.extend(base, str(texts["swh_Latn"]), 8, out)  # noqa: E731
    return extend, base, tokenizer, "write_extended"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("damage", ["cut", "zeroed", "removed"])
def test_an_output_that_was_damaged_is_made_again(command, tmp_path, caplog, damage) -> None:
    make, *_ = command
    make()
    right, file = contents(tmp_path / "out"), tmp_path / "out" / "model.safetensors"
    if damage == "cut":
        os.truncate(file, 100)
    elif damage == "zeroed":
        file.write_bytes(bytes(file.stat().st_size))
    else:
        file.unlink()
    make()
    assert contents(tmp_path / "out") == right
    assert "made again, not as it was written: model.safetensors" in caplog.text


def test_a_model_that_changes_while_it_is_read_publishes_nothing(command, tmp_path, monkeypatch) -> None:
    make, parent, module, write = command
    file, plain = parent / "model.safetensors", getattr(module, write)

    def write_and_change(*arguments):
        plain(*arguments)
        file.write_bytes(file.read_bytes()[:-1] + b"!")

    monkeypatch.setattr(module, write, write_and_change)
    with pytest.raises(UserError, match=r"changed while they were being used.*\n.*model\.safetensors") as caught:
        make()
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_model_that_changes_while_it_is_measured_gives_no_results(base, texts, tmp_path, monkeypatch) -> None:
    module = importlib.import_module("lingraft.evaluation.evaluate")
    measure = module.measure

    def measure_and_change(*arguments):
        measured = measure(*arguments)
        (base / "config.json").write_text((base / "config.json").read_text() + "\n")
        return measured

    monkeypatch.setattr(module, "measure", measure_and_change)
    with pytest.raises(UserError, match=r"changed while they were being used.*\n.*config\.json"):
        lingraft.evaluate(base, {"swh_Latn": str(texts["swh_Latn"])}, max_length=32, out=tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()
