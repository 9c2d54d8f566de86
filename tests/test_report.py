from __future__ import annotations

import json
import re

import pytest

import lingraft
from lingraft.errors import UserError


@pytest.fixture
def results():
    """The results of a run in which English got worse and Swahili better."""

    def entry(role: str, before: float, after: float) -> dict:
        return {
            "role": role,
            "bytes": 12345,
            "tokens": {"before": 4000, "after": 4000},
            "bits_per_byte": {"before": before, "after": after, "delta": after - before, "ci95": [-0.1, 0.1]},
            "perplexity": {"before": 90.0, "after": 30.0},
        }

    return {
        "schema": 1,
        "base": "base",
        "model": "model",
        "measured": {"max_length": 64, "stride": 32, "bos": True},
        "languages": {"eng_Latn": entry("retain", 1.0, 1.25), "swh_Latn": entry("learn", 4.0, 3.0)},
        "tasks": {},
        "learning": 0.25,
        "forgetting": 0.25,
    }


@pytest.fixture
def draw(tmp_path):
    def call(*all_results: dict, names: tuple[str, ...] = ("first", "second")) -> str:
        folders = []
        for name, results in zip(names, all_results, strict=False):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "results.json").write_text(json.dumps(results))
            folders.append(folder)
        lingraft.report(folders, tmp_path / "report.html")
        return (tmp_path / "report.html").read_text()

    return call


def test_learned_languages_come_first_with_their_change(draw, results) -> None:
    page = draw(results)
    assert page.index("Swahili") < page.index("English")
    assert "▼ -25.0 %" in page
    assert "▲ +25.0 %" in page


def test_the_page_asks_nothing_of_the_network(draw, results) -> None:
    page = draw(results)
    assert not re.search(r"https?://|src=|@import|url\(", page)
    assert "default-src 'none'" in page


def test_names_are_shown_and_not_run(draw, results) -> None:
    results["base"] = results["model"] = "<script>alert(1)</script>"
    page = draw(results, names=("<b>name",))
    assert "<script" not in page
    assert "&lt;b&gt;name" in page


def test_several_runs_stand_in_one_table(draw, results) -> None:
    page = draw(results, {**results, "learning": 0.5})
    assert "2 runs" in page
    assert "+50.0 %" in page


def test_results_without_a_base_are_drawn_too(draw, results) -> None:
    for entry in results["languages"].values():
        entry["bits_per_byte"] = {"after": 1.5}
        entry["perplexity"] = {"after": 30.0}
    del results["learning"], results["forgetting"]
    assert "1.5000" in draw(results)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no results.json"), ("[]", "not a results file"), ('{"schema": 2}', "reads schema 1")],
)
def test_a_folder_without_results_is_refused(tmp_path, content, message) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=message):
        lingraft.report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
