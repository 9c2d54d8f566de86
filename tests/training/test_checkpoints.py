"""A checkpoint is resumed from only as it was written; else from the one before it, and with the same end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from lingraft.disk import mark
from lingraft.methods import METHODS
from lingraft.training import checkpoints, graft_trainer
from lingraft.training.arguments import training_arguments
from lingraft.training.batches import TrainingText
from lingraft.training.checkpoints import newest_checkpoint
from lingraft.training.trainer import train

pytestmark = pytest.mark.integration

SETTINGS = {"max_steps": 6, "save_steps": 2, "logging_steps": 4, "eval_strategy": "steps", "eval_steps": 1}
SETTINGS |= {"per_device_train_batch_size": 2, "learning_rate": 1e-2}
FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "finished.json"]


def train_in(make_model, folder: Path):
    """Six steps, of which three are worse than the best, with a checkpoint after every second."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    rows = {"input_ids": random.integers(0, 256, (16, 16)).tolist(), "languages": [[0] * 16] * 16}
    blocks = Dataset.from_dict(rows)
    text = TrainingText(blocks, ["swh_Latn"], ["swh_Latn"], {}, selection=blocks.select(range(2)))
    adaptation = METHODS["full"](name="full").apply(make_model())
    outcome = train(adaptation, text, training_arguments(SETTINGS, folder, seed=0), patience=9)
    weights = {name: adaptation.model.get_parameter(name).detach().clone() for name in adaptation.trainable}
    log = [{k: v for k, v in e.items() if not k.endswith(("_runtime", "_per_second"))} for e in outcome.log]
    return weights, log, outcome.best_step


@pytest.fixture(scope="module")
def trained(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    mark(folder)  # as a run does
    return folder, *train_in(make_model, folder)


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of a finished training's folder, with checkpoints of the steps 4 and 6."""
    return Path(shutil.copytree(trained[0], tmp_path / "training"))


def step(checkpoint) -> int:
    return int(checkpoint.folder.name.rsplit("-", 1)[1]) if checkpoint else 0


def best_of(log: list[dict], up_to: int) -> int:
    losses = {e["step"]: e["eval_selection_loss"] for e in log if "eval_selection_loss" in e and e["step"] <= up_to}
    return min(losses, key=losses.get)


DAMAGES = {
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file: os.truncate(file, 0),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "removed": os.unlink,
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_resumed_from_and_what_is_damaged_is_named(folder, caplog, file, damage) -> None:
    assert step(newest_checkpoint(folder)) == 6
    DAMAGES[damage](folder / "checkpoint-6" / file)
    assert step(newest_checkpoint(folder)) == 4
    reason = "it was not written to its end" if file == "finished.json" else f"not as it was written: {file}"
    assert f"checkpoint-6: removed, {reason}" in caplog.text
    assert not (folder / "checkpoint-6").exists()


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"files": 5, "progress": {}}', '{"files": {}}', "[" * 10**5])
def test_a_mark_of_another_form_does_not_count(folder, text) -> None:
    (folder / "checkpoint-6" / "finished.json").write_text(text)
    assert step(newest_checkpoint(folder)) == 4


def test_there_is_nothing_to_resume_in_an_empty_folder(tmp_path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None


def test_a_folder_of_another_name_is_no_checkpoint(tmp_path) -> None:
    (tmp_path / "checkpoint-last").mkdir()
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("damaged", [(6,), (4, 6)], ids=["the newest", "all"])
def test_a_training_with_damaged_checkpoints_ends_with_the_same_bits_and_log(
    trained, folder, make_model, caplog, damaged
) -> None:
    for number in damaged:
        DAMAGES["cut"](folder / f"checkpoint-{number}" / "optimizer.pt")
    weights, log, best = train_in(make_model, folder)
    assert ("no checkpoint is whole: training starts anew" in caplog.text) == (len(damaged) == 2)
    _, expected, expected_log, expected_best = trained
    assert (log, best) == (expected_log, expected_best)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_weights_to_go_back_to_are_kept_for_every_checkpoint_and_belong_to_it(trained, folder, caplog) -> None:
    log = trained[2]
    assert {path.name for path in folder.glob("best-*")} == {f"best-{best_of(log, n)}.safetensors" for n in (4, 6)}
    DAMAGES["zeroed"](folder / f"best-{best_of(log, 6)}.safetensors")
    newest = newest_checkpoint(folder)
    assert step(newest) == (0 if best_of(log, 4) == best_of(log, 6) else 4)
    assert f"../best-{best_of(log, 6)}.safetensors" in caplog.text


@pytest.mark.parametrize("limit", [1, 2])
def test_older_checkpoints_are_removed_only_after_the_new_one_is_marked(
    make_model, tmp_path, monkeypatch, limit
) -> None:
    """A kill just before the mark leaves what can be resumed from."""
    marked = []

    def killed(checkpoint, *arguments):
        if len(marked) == 2:
            raise KeyboardInterrupt
        marked.append(checkpoint)
        checkpoints.mark_finished(checkpoint, *arguments)

    monkeypatch.setattr(graft_trainer, "mark_finished", killed)
    monkeypatch.setitem(SETTINGS, "save_total_limit", limit)
    with pytest.raises(KeyboardInterrupt):
        train_in(make_model, tmp_path)
    assert step(newest_checkpoint(tmp_path)) == 4


def test_a_checkpoint_is_on_the_disk_before_it_is_marked(make_model, tmp_path, monkeypatch) -> None:
    synced, sync = [], os.fsync

    def watch(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    train_in(make_model, tmp_path)
    checkpoint = tmp_path / "checkpoint-6"
    mark = max(i for i, name in enumerate(synced) if "finished.json" in name and str(checkpoint) in name)
    before = synced[:mark]
    assert json.loads((checkpoint / "finished.json").read_text())["files"].keys() >= {*FILES[:-1]}
    assert {str(checkpoint / name) for name in FILES[:-1]} <= {*before}
    assert str(checkpoint) in before
