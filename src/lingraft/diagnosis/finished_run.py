"""A finished run as a diagnosis reads it: its recipe, its base and result, and the text on which it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from torch import Tensor

from lingraft.checkpoints.document_marks import DocumentMarks, marks_like
from lingraft.checkpoints.mmap_weights import MappedWeights
from lingraft.checkpoints.names import public_name
from lingraft.checkpoints.read import find_model, read_config
from lingraft.corpus.read import read_texts
from lingraft.errors import ModelError, UserError
from lingraft.layer_groups import LayerRange, depth
from lingraft.pipeline.values import Model
from lingraft.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a run."""

    folder: Path

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe.

        Raises:
            UserError: the folder is not that of a run.
        """
        file = self.folder / "recipe.resolved.yaml"
        if not file.is_file() or not (self.folder / "model").is_dir():
            raise UserError(f"{self.folder}: this is not the folder of a finished run; give one, with its model/")
        return load_recipe(yaml.safe_load(file.read_text("utf-8")), runs_here=False)

    @property
    def names(self) -> dict[str, str]:
        """What a diagnosis says it is of."""
        return {"run": self.folder.resolve().name, "base": public_name(str(self.base.folder))}

    @cached_property
    def base(self) -> Model:
        return Model.load(self.recipe.base)

    @property
    def model(self) -> Path:
        return find_model(str(self.folder / "model"))

    def marks(self, folder: Path) -> DocumentMarks:
        """The run's marks of a document, for its base or its result."""
        return marks_like(self.recipe.marks, folder)

    def layers(self, first: int | None = None, last: int | None = None) -> LayerRange:
        """The layer groups: as given, else those of the first stage that has some, else a quarter at each end."""
        count = depth(read_config(self.base.folder))
        each = [stage.method.layers(count) for stage in self.recipe.stages.values()]
        quarter = max(1, count // 4)
        own = next((layers for layers in each if layers.first < count), LayerRange(quarter, quarter, count))
        return LayerRange(own.first if first is None else first, own.last if last is None else last, count)

    @property
    def texts(self) -> Mapping[str, Sequence[str]]:
        """Language -> documents that the run was measured on.

        Raises:
            UserError: the run's `work/` is not there.
        """
        codes, folder = self.recipe.languages.roles, self.folder / "work" / "split"
        if not folder.is_dir():
            raise UserError(
                f"{self.folder}: its work/, with the text that was measured, is not there; keep it to diagnose"
            )
        texts = {code: read_texts(folder / f"held-out-{code}.jsonl") for code in codes}
        return {code: documents for code, documents in texts.items() if documents}

    def pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The weights of base and result by name, mapped from their files.

        Raises:
            ModelError: the result has other shapes than the base: new tokens, or added weights.
        """
        before, after = MappedWeights(self.base.folder), MappedWeights(self.model)
        found = {}
        for name in after.names:
            if before.shape(name) != after.shape(name):
                raise ModelError(
                    f"{self.folder}: {name} is {_shown(after.shape(name))} in the result and "
                    f"{_shown(before.shape(name))} in the base, so its movement cannot be told; diagnose a run "
                    "without new tokens and without added weights"
                )
            found[name] = (before[name], after[name])
        return found


def _shown(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else "x".join(map(str, shape))
