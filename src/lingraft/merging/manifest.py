"""The record of a model made without training: `lingraft.json` for programs, a model card for people."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lingraft.cache import damaged_files, digests, fingerprint, read_record, write_json, write_text
from lingraft.checkpoints.cards import as_code, card, escaped
from lingraft.checkpoints.dtypes import TORCH_NAMES
from lingraft.checkpoints.names import public_name
from lingraft.checkpoints.published import changed
from lingraft.errors import OutputError
from lingraft.merging.assemble import Combination
from lingraft.merging.source_model import RECORD, Origin, SourceModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MergeRecipe:
    """A merge as requested: its method, its parents with their roles, and its settings."""

    method: str
    formula: str
    roles: Mapping[SourceModel, str]
    """Parent -> base, adapted, instruct or model."""
    weights: Mapping[SourceModel, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def record(self, combination: Combination, origin: SourceModel | Origin | None) -> dict[str, Any]:
        """The content of `lingraft.json`; `origin` is recorded as `base`: result - origin is a task vector."""
        base = {"base": {"name": public_name(origin.name), "fingerprint": origin.fingerprint}} if origin else {}
        return {
            "merge": {"method": self.method, "formula": self.formula, **self.settings},
            **base,
            "parents": [self._entry(parent, role) for parent, role in self.roles.items()],
            "tokenizer": public_name(combination.vocabulary.owner.name),
            "rows": combination.vocabulary.num_rows,
            "dtype": TORCH_NAMES[combination.dtype],
        }

    def _entry(self, parent: SourceModel, role: str) -> dict[str, Any]:
        weight = {"weight": self.weights[parent]} if parent in self.weights else {}
        return {"name": public_name(parent.name), "role": role, **weight, "fingerprint": parent.fingerprint}


def check_holds_only(out: Path, kind: str) -> None:
    """Refuse a folder that holds anything but the output of an earlier run of the same command.

    `kind`: `merge`, `extension` or `tutorial`, the key of that command's record.

    Raises:
        OutputError: names what the folder holds.
    """
    present = {path.name for path in out.iterdir()} if out.is_dir() else set()
    recorded = _recorded(out)
    ours = _files(recorded) if kind in recorded else set()
    if present and not ours:
        raise OutputError(
            f"--out {out} is not empty and not an earlier {kind} (it holds {', '.join(sorted(present)[:3])}); "
            "give a new folder"
        )
    if present - ours:
        raise OutputError(
            f"--out {out} is an earlier {kind}, and holds {', '.join(sorted(present - ours)[:3])} of yours "
            "beside it, which would be lost; move that away, or give a new folder"
        )
    if present:
        _check_unchanged(out, recorded, kind)


def _check_unchanged(out: Path, recorded: Mapping[str, Any], kind: str) -> None:
    """Refuse to overwrite a file that changed since lingraft wrote it.

    Raises:
        OutputError: names the files.
    """
    files = recorded["files"]
    if yours := changed({name: out / name for name in files}, {name: [files[name]] for name in files}):
        raise OutputError(
            f"--out {out} is an earlier {kind}, and {', '.join(yours[:3])} changed since it was written, which would "
            "be lost; move it away, or give a new folder"
        )


def was_made_from(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether a folder holds the result of exactly this record, with all files undamaged."""
    recorded = _recorded(folder)
    if recorded.get("fingerprint") != fingerprint(record) or not _files(recorded):
        return False
    damaged = damaged_files(folder, recorded["files"])
    if damaged:
        logger.warning("%s: made again, not as it was written: %s", folder, ", ".join(damaged))
    return not damaged


def _files(recorded: Mapping[str, Any]) -> set[str]:
    return {RECORD, *recorded["files"]} if isinstance(recorded.get("files"), dict) else set()


def _recorded(folder: Path) -> dict[str, Any]:
    return read_record(folder / RECORD) or {}


def write_manifest(folder: Path, record: Mapping[str, Any], readme: str) -> None:
    """Write `lingraft.json` and the model card."""
    versions = {name: version(name) for name in ("lingraft", "numpy")}
    write_text(folder / "README.md", readme)
    files = digests(folder)
    whole = {"versions": versions, "fingerprint": fingerprint(record), **record, "files": files}
    write_json(folder / RECORD, whole)


def merge_card(record: Mapping[str, Any], on_hub: Sequence[str]) -> str:
    """The card of a merged model or adapter; `on_hub`: the names of the parents that are on the hub."""
    merge, parents = record["merge"], record["parents"]
    settings = {key: value for key, value in merge.items() if key not in ("method", "formula")}
    adapter = bool(record.get("adapter"))
    head = {
        "library_name": "peft" if adapter else "transformers",
        "tags": ["merge", "lingraft"],
        "base_model": list(on_hub),
        "base_model_relation": "merge" if on_hub else None,
    }
    lines = [
        f"# {merge['method']} of {len(parents)} models",
        "",
        f"Made by lingraft without training: {as_code(merge['formula'])}, in float32, "
        f"rounded once to {record['dtype']}.",
        "",
        "| model | role | weight | fingerprint |",
        "|---|---|---|---|",
        *(
            f"| {escaped(parent['name'])} | {parent['role']} | {parent.get('weight', '')} "
            f"| {as_code(parent['fingerprint'])} |"
            for parent in parents
        ),
        "",
        *(f"- {key}: {escaped(value)}" for key, value in settings.items()),
        f"- tokenizer: from {escaped(record['tokenizer'])}; {record['rows']:,} rows in the embeddings",
        "",
        "The licences of all models in the table apply.",
    ]
    return card(head, lines)
