"""The folder of a run stands for the model in it, wherever a model is named."""

from __future__ import annotations

from pathlib import Path

import pytest

import lingraft
from lingraft.checkpoints.read import find_model
from lingraft.errors import ModelError

pytestmark = pytest.mark.integration


@pytest.fixture
def run(base, tmp_path) -> Path:
    """A run's folder, with an adapter beside its model."""
    folder = tmp_path / "run"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    base.rename(folder / "model")
    return folder


def test_it_is_found_by_every_command_that_takes_a_model(run, texts, tmp_path) -> None:
    assert find_model(str(run)) == run / "model"
    measured = lingraft.evaluate(run, {"eng_Latn": str(texts["eng_Latn"])}, against=run, max_length=32)
    assert measured["languages"]["eng_Latn"]["bits_per_byte"]["delta"] == 0
    assert (lingraft.merge.soup({str(run): 1.0, str(run / "model"): 1.0}, tmp_path / "soup") / "config.json").is_file()
    assert lingraft.tokenizer.fertility([run], {"eng_Latn": str(texts["eng_Latn"])})["models"]
    assert "silent-adapters" in lingraft.init(str(run), ["swh_Latn"], out=tmp_path / "r.yaml")


def test_a_folder_without_a_model_is_still_refused(tmp_path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match=r"a folder without config\.json"):
        find_model(str(tmp_path))
