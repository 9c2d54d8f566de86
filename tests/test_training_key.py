"""The key of a training: whatever decides the trained model is part of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from lingraft.checkpoints.document_marks import DocumentMarks
from lingraft.pipeline.train import Trainee, checkpoint_folder
from lingraft.recipe.stage import Stage
from lingraft.recipe.text import Languages

TRAINEE = Trainee(
    start=SimpleNamespace(fingerprint="base"),
    data=SimpleNamespace(
        training=SimpleNamespace(fingerprint="blocks"), held_out=SimpleNamespace(fingerprint="held out")
    ),
    generated=[],
    stage=Stage.model_validate({"method": {"name": "full"}, "early_stopping": {}}),
    languages=Languages.model_validate({"learn": ["swh_Latn"], "retain": ["eng_Latn"]}),
    blocks_to_decide=4,
    export="plain",
    max_length=64,
    seed=0,
    marks=DocumentMarks("<bos>", "<eos>"),
    first_new=None,
    abilities=[],
    start_name="base",
)
OTHERS = {
    "start": SimpleNamespace(fingerprint="another"),
    "data": SimpleNamespace(
        training=SimpleNamespace(fingerprint="others"), held_out=SimpleNamespace(fingerprint="held out")
    ),
    "generated": [SimpleNamespace(fingerprint="part")],
    "stage": Stage.model_validate({"method": {"name": "lora"}, "early_stopping": {}}),
    "languages": Languages.model_validate({"learn": ["swh_Latn"], "retain": ["spa_Latn"]}),
    "blocks_to_decide": 5,
    "export": "wide-ffn",
    "max_length": 32,
    "seed": 1,
    "marks": DocumentMarks("<eos>", None),
    "first_new": 256,
}


@pytest.mark.parametrize("field", OTHERS)
def test_what_decides_the_trained_model_changes_its_key(field) -> None:
    assert replace(TRAINEE, **{field: OTHERS[field]}).fingerprint != TRAINEE.fingerprint


def test_another_number_of_processes_begins_its_own_training(monkeypatch, tmp_path) -> None:
    """A checkpoint counts steps, whose size is that of all processes."""
    alone = checkpoint_folder(tmp_path, {"key": 1})
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert checkpoint_folder(tmp_path, {"key": 1}) != alone


def test_an_observed_language_does_not() -> None:
    languages = TRAINEE.languages.model_copy(update={"observe": ["fra_Latn"]})
    assert replace(TRAINEE, languages=languages).fingerprint == TRAINEE.fingerprint


def test_what_is_only_looked_at_while_it_trains_does_not() -> None:
    assert replace(TRAINEE, abilities=[SimpleNamespace()]).fingerprint == TRAINEE.fingerprint
