"""Upload a run's model, adapter and report to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.errors import ModelError, OutputError, UserError, first_line

_ADAPTER, _REPORT = "adapter", "report.html"


def files_of_run(run: Path) -> dict[str, Path]:
    """Path in the repository -> file: the model at the top, the adapter in its folder, and the report.

    Raises:
        ModelError: the folder is not that of a finished run.
    """
    model = run / "model"
    if not (model / "config.json").is_file() or not (run / "results.json").is_file():
        raise ModelError(f"'{run}' is not the folder of a finished run; give the --out of 'lingraft run'")
    files = {
        path.relative_to(top).as_posix(): path
        for folder, top in ((model, model), (run / _ADAPTER, run))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    if (run / _REPORT).is_file():
        files[_REPORT] = run / _REPORT
    return files


def check_repository(repo: str) -> None:
    """Refuse a name that is none of a repository.

    Raises:
        UserError: names the form.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
        is_valid = "/" in repo
    except HFValidationError:
        is_valid = False
    if not is_valid:
        raise UserError(f"--repo {repo}: a repository is USER/NAME, as in --repo maria/smollm2-chichewa")


def upload(files: Mapping[str, Path], repo: str, private: bool) -> str:
    """Create the repository where it is not there, and upload all files in one commit; returns its address.

    Raises:
        OutputError: nobody is logged in, or the hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise OutputError("nobody is logged in to the hub; log in with 'hf auth login', or set HF_TOKEN")
    api: Any = HfApi()
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        operations = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path.resolve())) for name, path in files.items()
        ]
        api.create_commit(repo, operations, commit_message="Upload a model that lingraft made")
    except Exception as error:  # of the network, of the hub, or of the card's front matter
        raise OutputError(f"{repo}: the hub does not take it: {first_line(error)}") from None
    return str(address)
