"""`lingraft publish`: shows what would leave the machine, asks, and uploads."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from lingraft.cli.options import example
from lingraft.errors import UserError

EXAMPLE = example("lingraft publish runs/chichewa --repo maria/smollm2-chichewa --dry-run")


def publish(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    repo: Annotated[str, typer.Option(help="The repository on the Hugging Face hub, USER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be uploaded, and end.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Upload model, adapter and report of a run to the hub; asks before anything leaves the machine."""
    from lingraft.checkpoints.upload import check_repository, files_of_run, upload

    check_repository(repo)
    files = files_of_run(run)
    _show(files)
    kind = "private" if private else "public"
    if dry_run:
        typer.echo(f"nothing was uploaded to {repo}")
        return
    if not yes:
        if not sys.stdin or not sys.stdin.isatty():
            raise UserError(f"--repo {repo}: there is nobody to ask whether to upload; give --yes or --dry-run")
        if not typer.confirm(f"upload {len(files)} files to {repo} ({kind} if it is new)?"):
            typer.echo("nothing was uploaded")
            return
    typer.echo(f"uploaded to {upload(files, repo, private)}")


def _show(files: Mapping[str, Path]) -> None:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    for name, size in sizes.items():
        typer.echo(f"{size / 2**20:10.2f} MiB  {name}")
    typer.echo(f"{sum(sizes.values()) / 2**20:10.2f} MiB  in {len(files)} files")
