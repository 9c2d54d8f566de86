"""A changed recipe on a finished run: what depends on the change is made again, and nothing else."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lingraft
from lingraft.cache import records
from lingraft.errors import OutputError

pytestmark = pytest.mark.integration

STEPS = {"max_steps": 4, "eval_steps": 2}


@pytest.fixture(scope="module")
def first(shared_recipe) -> dict[str, Any]:
    recipe = {**shared_recipe, "method": {"name": "lora", "rank": 2}}
    return {**recipe, "training": {**recipe["training"], **STEPS}}


@pytest.fixture(scope="module")
def finished(first, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    lingraft.run(first, out)
    return out


@pytest.fixture
def again(finished, tmp_path, caplog) -> Callable[[dict[str, Any]], tuple[dict[str, Any], set[str], Path]]:
    """Runs a changed recipe in a copy of the finished run: its results, the artefacts that were made, the folder.

    The results are those of the same recipe in a new folder.
    """

    def again(recipe: dict[str, Any]) -> tuple[dict[str, Any], set[str], Path]:
        out = shutil.copytree(finished, tmp_path / "out", symlinks=True)
        before = records(out / "work")
        with caplog.at_level(logging.INFO):
            results = lingraft.run(recipe, out)
        made = {path.name for path, time in records(out / "work").items() if before.get(path) != time}
        assert results == lingraft.run(recipe, tmp_path / "new")
        assert json.loads((out / "results.json").read_text()) == results
        return results, made, out

    return again


EVALUATED_AGAIN = {"split", "corpus-0-overlap", "held-out-blocks", "before", "after", "unrounded", "measured-text"}


def test_changed_samples_are_only_measured_again(first, again) -> None:
    _, made, _ = again({**first, "evaluation": {**first["evaluation"], "num_samples": 1}})
    assert made == {"before", "after"}


def test_an_added_task_is_measured_without_training(first, again, tmp_path) -> None:
    (tmp_path / "questions.jsonl").write_text('{"context": "casa", "choices": [" agua", " xx"], "answer": 0}\n')
    tasks = {"likely": {"spa_Latn": str(tmp_path / "questions.jsonl")}}
    results, made, _ = again({**first, "evaluation": {**first["evaluation"], "tasks": tasks}})
    assert list(results["tasks"]) == ["likely"]
    assert {"before", "after"} <= made <= EVALUATED_AGAIN


def test_an_observed_language_is_measured_without_training(first, again, tmp_path) -> None:
    lines = (json.dumps({"text": f"feu maison eau numéro {i} livre soleil"}) for i in range(30))
    (tmp_path / "french.jsonl").write_text("\n".join(lines))
    text = {**first["evaluation"]["text"], "fra_Latn": str(tmp_path / "french.jsonl")}
    recipe = {**first, "languages": {**first["languages"], "observe": ["fra_Latn"]}}
    results, made, _ = again({**recipe, "evaluation": {**first["evaluation"], "text": text}})
    assert results["languages"]["fra_Latn"]["role"] == "observe"
    assert {"before", "after"} <= made <= EVALUATED_AGAIN


def test_measured_text_that_stands_in_the_corpus_retrains(first, again, tmp_path) -> None:
    lines = Path(first["corpus"][0]["files"]).read_text().splitlines()
    (tmp_path / "leak.jsonl").write_text("\n".join(lines[:40]))
    text = {**first["evaluation"]["text"], "swh_Latn": str(tmp_path / "leak.jsonl")}
    _, made, _ = again({**first, "evaluation": {**first["evaluation"], "text": text}})
    assert {"blocks", "adapted", "exported"} <= made


def test_changed_merge_steps_merge_without_training(first, again) -> None:
    _, made, _ = again({**first, "merge": [{"scale": 0.5}]})
    assert made == {"combined", "exported", "after", "unrounded"}


def test_a_limit_on_forgetting_is_found_without_training(first, again) -> None:
    results, made, _ = again({**first, "merge": [{"max_forgetting": 1e-4}]})
    assert results["max_forgetting"]["limit"] == 1e-4
    assert {"scales", "combined"} <= made
    assert not {"adapted", "blocks", "corpus-0"} & made


def test_a_changed_corpus_retrains(first, again) -> None:
    _, made, _ = again({**first, "corpus": [{**first["corpus"][0], "tokens": 1000}]})
    assert {"blocks", "adapted", "exported", "after", "unrounded"} <= made
    assert not {"before", "corpus-0", "split"} & made


def test_a_changed_method_retrains_and_its_adapter_goes(first, finished, again) -> None:
    _, made, out = again({**first, "method": {"name": "full"}})
    assert made == {"adapted", "exported", "after", "unrounded"}
    assert (finished / "adapter").is_dir()
    assert not (out / "adapter").exists()


def test_what_changed_is_logged(first, again, caplog) -> None:
    again({**first, "merge": [{"scale": 0.5}]})
    assert re.search(r"the recipe changed \(merge: \[\] there, .*0\.5.* here\): what depends on it", caplog.text)


@pytest.mark.parametrize("key", ["base", "learn"])
def test_another_base_or_learned_language_is_another_run(first, finished, write_base, tmp_path, key) -> None:
    other = {
        "base": {"base": str(write_base(tmp_path / "base"))},
        "learn": {
            "languages": {"learn": ["lin_Latn"], "retain": first["languages"]["retain"]},
            "corpus": [{**first["corpus"][0], "language": "lin_Latn"}],
        },
    }
    with pytest.raises(OutputError, match="belongs to another run"):
        lingraft.run({**first, **other[key]}, finished)
