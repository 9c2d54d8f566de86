"""The keys of a recipe."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, field_validator, model_validator

from lingraft.checkpoints.document_marks import DocumentMarks
from lingraft.methods import Export
from lingraft.recipe.merge_steps import AnyStep, MaxForgettingStep
from lingraft.recipe.section import Section
from lingraft.recipe.stage import Stage
from lingraft.recipe.text import Document, Evaluation, Languages, Validation
from lingraft.recipe.types import Count
from lingraft.vocabulary import Init

_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Vocabulary(Section):
    """New tokens for the base's tokenizer, learned on the corpora of the learned languages (arXiv 2412.13375)."""

    new_tokens: Count
    """Tokens."""
    init: Init = "subtoken-mean"
    """What the rows of new tokens are made of."""
    max_bytes: Count = 200_000_000
    """Text that they are learned on, the same of each language; documents are drawn by seed."""


ALONE = "alone"
"""The name of the stage that a recipe without `stages` is the short form of; it is shown nowhere."""
STAGE_KEYS = tuple(key for key in Stage.model_fields if key != "merge")
"""Keys of a stage that a recipe in the short form has itself."""


def is_short_form(values: Any) -> bool:
    """Whether the values of a recipe have no `stages`, so that they are the short form of one stage."""
    return isinstance(values, dict) and values.get("stages") is None


class Recipe(Section):
    """A run. `load_recipe` fills in all defaults.

    `method:` and its like beside `base:` are the short form of one stage.
    """

    base: str = Field(min_length=1)
    """Folder or hub name of the pretrained model."""
    languages: Languages
    """The role of each language."""
    max_length: Annotated[int, Field(ge=8)] | None = None
    """Tokens in a block; 2048 by default, or the context of the base if that is shorter."""
    document: Document | None = None
    """By default the marks of the base's pretraining, and not those of a turn of its chat
    (`checkpoints.document_marks`)."""
    vocabulary: Vocabulary | None = None
    stages: dict[str, Stage] = Field(min_length=1)
    """Trainings one after another, by name; each starts from what the one before it left."""
    merge: list[AnyStep] = []
    """What is done with the result of the last stage."""
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    export: Export | None = None
    """What the result is written as; where it is not said, what the method comes nearest to a plain model with."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    _is_short: bool = PrivateAttr(default=False)

    @field_validator("stages")
    @classmethod
    def _named(cls, stages: dict[str, Stage]) -> dict[str, Stage]:
        for name in stages:
            if not _STAGE_NAME.fullmatch(name):
                raise ValueError(f"'{name}' cannot be the name of a stage; use lower-case letters, digits and hyphens")
        return stages

    @model_validator(mode="wrap")
    @classmethod
    def _read_short_form(cls, values: Any, handler: ModelWrapValidatorHandler[Recipe]) -> Recipe:
        is_short = is_short_form(values)
        if is_short:
            stage = {key: values[key] for key in STAGE_KEYS if key in values}
            rest = {key: of for key, of in values.items() if key not in (*STAGE_KEYS, "stages")}
            values = {**rest, "stages": {ALONE: {"method": {}, **stage}}}
        elif isinstance(values, dict) and (both := [key for key in STAGE_KEYS if key in values]):
            raise ValueError(f"stages: each stage has its own {', '.join(both)}; move what stands beside 'stages'")
        recipe = handler(values)
        recipe._is_short = is_short
        return recipe

    @property
    def is_short(self) -> bool:
        """Whether the recipe was given in the short form of one stage."""
        return self._is_short

    @property
    def has_named_stages(self) -> bool:
        """Whether the recipe has `stages`, each with a name of its own."""
        return not self._is_short

    def place(self, stage: str) -> str:
        """Return the prefix of a stage's keys in messages: `stages.NAME.`, or nothing in the short form."""
        return "" if self.is_short else f"stages.{stage}."

    def shown_name(self, stage: str) -> str | None:
        """Return the name of a stage in published files; None in the short form."""
        return None if self.is_short else stage

    @property
    def only(self) -> Stage:
        """The only stage of a recipe that has one."""
        (stage,) = self.stages.values()
        return stage

    @property
    def last(self) -> str:
        """The name of the last stage."""
        return list(self.stages)[-1]

    def form_of(self, stage: str) -> Export:
        """Return the export form of a stage; every stage but the last is exported as `plain`."""
        return self.form if stage == self.last else "plain"

    @property
    def instruct(self) -> str | None:
        """The instruct model that `merge:` adds the language to, if any."""
        return next((step.like for step in reversed(self.merge) if step.like), None)

    @property
    def max_forgetting(self) -> MaxForgettingStep | None:
        """The `max_forgetting` step of `merge:`, if any."""
        return next((step for step in self.merge if isinstance(step, MaxForgettingStep)), None)

    @property
    def selection_languages(self) -> list[str]:
        """Languages that need a selection split, which is excluded from evaluation."""
        stops_early = any(stage.early_stopping for stage in self.stages.values())
        learned = self.languages.learn if stops_early or self.max_forgetting else []
        return [*learned, *(self.languages.retained if self.max_forgetting else [])]

    @property
    def form(self) -> Export:
        """`export` of a resolved recipe."""
        assert self.export is not None, "the recipe is not resolved"
        return self.export

    @property
    def marks(self) -> DocumentMarks:
        """`document` of a resolved recipe."""
        assert self.document is not None, "the recipe is not resolved"
        return DocumentMarks(self.document.bos, self.document.eos)

    @property
    def length(self) -> int:
        """`max_length` of a resolved recipe, in tokens."""
        assert self.max_length is not None, "the recipe is not resolved"
        return self.max_length
