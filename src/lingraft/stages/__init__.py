"""The stages of a run: each takes values, leaves one artefact folder, and gives back its path.

A finished artefact of the same inputs is kept, so a run that is started again goes on where it
stopped. With several processes the first one works and the others find its result, except in
training, where all work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from lingraft.artefacts import stage

Tables = Mapping[str, Sequence[Path]]
"""Stage -> a folder with the table `documents.arrow` for each entry of its corpus."""


def one_after_another(
    path: Path, inputs: dict[str, Any], make: Callable[[Path], None], elsewhere: Iterable[Path] = ()
) -> Path:
    """A stage that the main process makes while the others wait."""
    with PartialState().main_process_first():
        return stage(path, inputs, make, elsewhere)


def folder_of(work: Path, stage: str) -> Path:
    """Where a stage of a recipe leaves its artefacts; those of a recipe without stages lie in `work` itself."""
    return work / f"stage-{stage}" if stage else work
