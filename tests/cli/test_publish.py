"""`lingraft publish`: nothing leaves the machine unasked, and no token is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lingraft.cli.commands import app

TOKEN = "hf_secretsecret"


@pytest.fixture
def finished(tmp_path) -> Path:
    """The files of a finished run, without their content."""
    for name in ("model/config.json", "model/model.safetensors", "model/README.md", "adapter/adapter_config.json"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("{}")
    for name in ("results.json", "report.html", "lingraft.json"):
        (tmp_path / "run" / name).write_text("{}")
    (tmp_path / "run/work").mkdir()
    (tmp_path / "run/work/corpus.jsonl").write_text("the text of somebody")
    return tmp_path / "run"


@pytest.fixture
def hub(monkeypatch) -> list[tuple]:
    """What reaches the hub."""
    calls: list[tuple] = []

    class Api:
        def create_repo(self, repo, private, exist_ok) -> str:
            calls.append(("create", repo, private))
            return f"https://huggingface.co/{repo}"

        def create_commit(self, repo, operations, commit_message) -> None:
            calls.append(("commit", repo, sorted(operation.path_in_repo for operation in operations)))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: TOKEN)
    return calls


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["publish", *map(str, arguments)])
    shown = f"{result.exception}" if result.exception and not isinstance(result.exception, SystemExit) else ""
    return result.exit_code, result.output + shown


def test_a_dry_run_shows_the_files_and_uploads_nothing(finished, hub) -> None:
    code, shown = call(finished, "--repo", "a/b", "--dry-run")
    assert (code, hub) == (0, [])
    assert "model.safetensors" in shown
    assert "adapter/adapter_config.json" in shown
    assert "in 5 files" in shown


def test_nobody_to_ask_is_an_error_and_uploads_nothing(finished, hub) -> None:
    _, shown = call(finished, "--repo", "a/b")
    assert "there is nobody to ask whether to upload; give --yes" in shown
    assert hub == []


def test_yes_uploads_model_adapter_and_report_and_no_text(finished, hub) -> None:
    code, shown = call(finished, "--repo", "a/b", "--private", "--yes")
    assert code == 0
    files = ["README.md", "adapter/adapter_config.json", "config.json", "model.safetensors", "report.html"]
    assert hub == [("create", "a/b", True), ("commit", "a/b", files)]
    assert TOKEN not in shown


@pytest.mark.parametrize("repo", ["name", "a/b/c", "a b/c", "/b", "a/b--c", "a/b.git"])
def test_a_name_that_is_no_repository_is_refused(finished, hub, repo) -> None:
    assert "a repository is USER/NAME" in call(finished, "--repo", repo, "--yes")[1]
    assert hub == []


def test_a_folder_that_is_no_run_is_refused(tmp_path, hub) -> None:
    assert "is not the folder of a finished run" in call(tmp_path, "--repo", "a/b", "--yes")[1]


def test_nobody_logged_in_is_an_error(finished, hub, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "nobody is logged in to the hub" in call(finished, "--repo", "a/b", "--yes")[1]
    assert hub == []
