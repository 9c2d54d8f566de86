"""Training ends when the loss on text that is kept for it falls no more, and goes back to where it was lowest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import write_texts
from lingraft import run
from lingraft.corpus.read import read_texts
from lingraft.errors import CorpusError
from lingraft.training import early_stopping
from lingraft.training.trainer import LanguageTrainer

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("early stopping")]  # one run serves many tests

MODEL = "work/adapted/model/model.safetensors"


@pytest.fixture(scope="module")
def stopping(shared_recipe):
    """Steps so large that validation soon gets worse."""
    write_texts(Path(shared_recipe["evaluation"]["text"]["eng_Latn"]).parent)
    training = {**shared_recipe["training"], "eval_steps": 2, "num_train_epochs": 3, "save_steps": 2}
    training |= {"learning_rate": 0.05, "lr_scheduler_type": "constant", "weight_decay": 0.0}
    corpus = [{**shared_recipe["corpus"][0], "tokens": 4000}]
    return {**shared_recipe, "corpus": corpus, "early_stopping": {"patience": 2}, "training": training}


@pytest.fixture(scope="module")
def stopped(stopping, tmp_path_factory):
    """A run that nobody killed."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    run(stopping, out)
    return out


def losses(log: list[dict]) -> dict[int, float]:
    return {entry["step"]: entry["eval_selection_loss"] for entry in log if "eval_selection_loss" in entry}


def test_it_stops_after_so_many_evaluations_and_goes_back(stopped) -> None:
    training = json.loads((stopped / "training.json").read_text())
    seen = losses(training["log"])
    best = min(seen, key=seen.get)
    assert training["best_step"] == best < training["steps"]
    assert sum(step > best for step in seen) == 2


def test_the_model_is_that_of_the_best_step(stopping, stopped, tmp_path) -> None:
    best = json.loads((stopped / "training.json").read_text())["best_step"]
    shorter = {**stopping, "training": {**stopping["training"], "max_steps": best}, "early_stopping": {"patience": 99}}
    run(shorter, tmp_path / "shorter")
    assert (stopped / MODEL).read_bytes() == (tmp_path / "shorter" / MODEL).read_bytes()


@pytest.mark.parametrize("training", [{}, {"eval_on_start": True, "save_steps": 3}], ids=["", "evaluated at the start"])
def test_a_run_that_was_killed_stops_at_the_same_step_with_the_same_model(
    stopping, tmp_path, monkeypatch, training
) -> None:
    recipe = {**stopping, "training": {**stopping["training"], **training}}
    run(recipe, tmp_path / "straight")
    save, saved = LanguageTrainer._save_checkpoint, []

    def killed(self, *arguments):
        save(self, *arguments)
        saved.append(self.state.global_step)
        if len(saved) in (1, 2):
            raise KeyboardInterrupt

    monkeypatch.setattr(LanguageTrainer, "_save_checkpoint", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path / "killed")
    run(recipe, tmp_path / "killed")
    assert (tmp_path / "straight" / MODEL).read_bytes() == (tmp_path / "killed" / MODEL).read_bytes()


def test_a_run_that_was_killed_when_it_had_stopped_does_not_go_on(stopping, stopped, tmp_path, monkeypatch) -> None:
    steps = json.loads((stopped / "training.json").read_text())["steps"]
    save = LanguageTrainer._save_checkpoint

    def killed(self, *arguments):
        save(self, *arguments)
        if self.state.global_step == steps:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LanguageTrainer, "_save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            run(stopping, tmp_path / "killed")
    run(stopping, tmp_path / "killed")
    assert json.loads((tmp_path / "killed/training.json").read_text())["steps"] == steps
    assert (stopped / MODEL).read_bytes() == (tmp_path / "killed" / MODEL).read_bytes()


def test_what_decides_is_neither_trained_nor_measured(stopped) -> None:
    texts = stopped / "work/split"
    assert not read_texts(texts / "selection-eng_Latn.jsonl")  # when to stop is decided on learned text alone
    for code in ("swh_Latn",):
        selection, measured = (read_texts(texts / f"{name}-{code}.jsonl") for name in ("selection", "held-out"))
        assert selection
        assert measured
        assert not {*selection} & {*measured}
    results = json.loads((stopped / "results.json").read_text())
    for code in ("swh_Latn", "eng_Latn"):
        measured = sum(len(text.encode()) for text in read_texts(texts / f"held-out-{code}.jsonl"))
        assert results["languages"][code]["bytes"] == measured


def test_without_a_choice_all_text_is_measured(recipe, texts, tmp_path) -> None:
    run(recipe, tmp_path / "out")
    measured = read_texts(tmp_path / "out/work/split/held-out-eng_Latn.jsonl")
    assert measured == read_texts(texts["eng_Latn"])


def test_one_document_cannot_both_decide_and_be_measured(recipe, tmp_path) -> None:
    (tmp_path / "one.jsonl").write_text('{"text": "only one document of english text here"}\n')
    recipe["evaluation"]["text"]["eng_Latn"] = str(tmp_path / "one.jsonl")
    recipe["merge"] = [{"max_forgetting": 0.01}]
    with pytest.raises(CorpusError, match="eng_Latn: no selection split can be taken from the text to measure"):
        run(recipe, tmp_path / "out")


def test_older_weights_go_with_the_last_checkpoint_that_needs_them(tmp_path) -> None:
    class State:
        log_history = [{"step": 2, "eval_selection_loss": 2.0}, {"step": 4, "eval_selection_loss": 1.0}]  # noqa: RUF012
        is_world_process_zero = True

    for step in (2, 4):
        (tmp_path / f"best-{step}.safetensors").touch()
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-5").mkdir()
    early_stopping.EarlyStopping(tmp_path, 3, []).on_save(None, State, None)
    assert {path.name for path in tmp_path.glob("best-*")} == {"best-2.safetensors", "best-4.safetensors"}
    (tmp_path / "checkpoint-3").rmdir()
    early_stopping.EarlyStopping(tmp_path, 3, []).on_save(None, State, None)
    assert {path.name for path in tmp_path.glob("best-*")} == {"best-4.safetensors"}


def test_a_loss_counts_as_lower_only_by_more_than_the_threshold(tmp_path) -> None:
    falling = [3.0, 2.9, 2.899, 2.898, 2.7]
    log = [{"step": i, "eval_selection_loss": loss} for i, loss in enumerate(falling)]

    def is_over(threshold: float, evaluations: int) -> bool:
        return early_stopping.EarlyStopping(tmp_path, 2, [], threshold).is_over(log[:evaluations])

    assert [is_over(0.005, count) for count in range(1, 6)] == [False, False, False, True, False]
    assert not any(is_over(0.0, count) for count in range(1, 6))
    assert is_over(0.5, 3)
