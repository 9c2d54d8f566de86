"""The files that a recipe reads must not change before the model is published."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from accelerate import PartialState

from lingraft.cache import discard, records
from lingraft.checkpoints.read import find_folder, model_files
from lingraft.corpus.read import find_files
from lingraft.input_files import Files, Sources, changed_error
from lingraft.pipeline.check import merge_steps_of
from lingraft.recipe import Recipe


class RecipeFiles:
    """The files of a recipe at the start of the run."""

    def __init__(self, recipe: Recipe, work: Path) -> None:
        self.work = work
        self.text = Sources(lambda: _texts(recipe))
        self.models = Sources(lambda: _models(recipe))
        self._known = records(work)

    def raise_if_text_changed(self) -> None:
        """Call after text was read, and before artefacts are made from it.

        Raises:
            UserError: it changed. What was made of it is discarded.
        """
        with PartialState().main_process_first():
            if changed := self.text.changed():
                discard(self.work, self._known)
                raise changed_error(changed)
        self._known = records(self.work)

    def raise_if_changed(self) -> None:
        """Call before anything is published.

        Raises:
            UserError: text or a model changed. What was made since models are read is discarded if they did, since
                it may be of both; of text, which was read before, what was made of it stays right.
        """
        with PartialState().main_process_first():
            models = self.models.changed()
            if models:
                discard(self.work, self._known)
            if changed := {**models, **self.text.changed()}:
                raise changed_error(changed)


def _texts(recipe: Recipe) -> Files:
    files: dict[str, list[Path]] = {}

    def add(role: str, patterns: Iterable[str]) -> None:
        files.setdefault(role, []).extend(find_files(*patterns))

    for stage in recipe.stages.values():
        for entry in stage.corpus:
            files.setdefault("corpus", []).extend(entry.source.paths)
        for given in stage.instructions or []:
            add("instructions", given.files)
        if stage.chat_template and Path(stage.chat_template).is_file():
            files.setdefault("chat_template", []).append(Path(stage.chat_template))
    for patterns in recipe.evaluation.text.values():
        add("evaluation.text", patterns)
    for pairs in recipe.evaluation.pairs:
        add("evaluation.pairs", pairs.files)
    for task in recipe.evaluation.tasks.values():
        for patterns in (*task.files.values(), *task.examples.values()):
            add("evaluation.tasks", patterns)
    return files


def _models(recipe: Recipe) -> Files:
    names = {"base": [recipe.base]}
    names["merge"] = [name for steps in merge_steps_of(recipe) for step in steps for name in step.models]
    return {role: [file for name in of for file in model_files(find_folder(name))] for role, of in names.items()}
