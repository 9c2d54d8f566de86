"""The keys of a recipe: what is grafted onto what, by one training or by several."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from lingraft.methods import Export
from lingraft.recipe.after import ForgetAtMostStep
from lingraft.recipe.section import Section
from lingraft.recipe.text import Evaluation, Languages, Validation
from lingraft.recipe.training import AnyMethod, Training
from lingraft.recipe.values import Count
from lingraft.vocabulary.rows import Init

_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Vocabulary(Section):
    """New words for the base's tokenizer, learned on the corpora of the learned languages (arXiv 2412.13375)."""

    add: Count
    """Tokens."""
    init: Init = "pieces"
    """What the rows of new tokens are made of."""
    max_bytes: Count = 200_000_000
    """Text that they are learned on, the same of each language; documents are drawn by seed."""


class Graft(Section):
    """A base, its languages, and its new words."""

    base: str = Field(min_length=1)
    languages: Languages
    max_length: Annotated[int, Field(ge=8)] | None = None
    vocabulary: Vocabulary | None = None


class Recipe(Training, Graft):
    """A run. `load_recipe` fills in what is not given, so that a resolved recipe says everything."""

    method: AnyMethod = None  # type: ignore[assignment]  # only where stages have their own
    stages: dict[str, Training] | None = Field(None, min_length=1)
    """Trainings one after another, by name; each starts from what the one before it left."""
    validation: Validation = Validation()
    evaluation: Evaluation = Evaluation()
    export: Export | None = None
    """What the result is written as; where it is not said, what the method comes nearest to a plain model with."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @field_validator("stages")
    @classmethod
    def _named(cls, stages: dict[str, Training] | None) -> dict[str, Training] | None:
        for name in stages or {}:
            if not _STAGE_NAME.fullmatch(name):
                raise ValueError(f"'{name}' cannot be the name of a stage; use lower-case letters, digits and hyphens")
        return stages

    @model_validator(mode="before")
    @classmethod
    def _one_training_or_stages(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("stages"):
            both = [key for key in Training.model_fields if key in values and key != "after"]
            if both:
                raise ValueError(f"stages: each stage has its own {', '.join(both)}; move what stands beside 'stages'")
        elif isinstance(values, dict) and "method" not in values:
            values = {**values, "method": {}}
        return values

    @property
    def expanded(self) -> dict[str, Recipe]:
        """The stages as recipes of one training each, in order; this one alone, without a name, where it has none.

        What is done after the last of them stays with the recipe.
        """
        if not self.stages:
            return {"": self.model_copy(update={"after": []})}
        last, template, expanded = list(self.stages)[-1], None, {}
        for name, stage in self.stages.items():
            template = stage.chat_template or template  # goes along with the model that is handed on
            own = {key: getattr(stage, key) for key in Training.model_fields}
            own |= {"chat_template": template if stage.instructions else stage.chat_template}
            form = self.export if name == last else "plain"
            expanded[name] = self.model_copy(update={**own, "stages": None, "export": form})
        return expanded

    @property
    def instruct(self) -> str | None:
        """The instruct model that `after:` adds the language to, where there is one."""
        return next((step.like for step in reversed(self.after) if step.like), None)

    @property
    def forget_at_most(self) -> ForgetAtMostStep | None:
        """The step of `after:` that decides how much of the trained vector is kept, where there is one."""
        return next((step for step in self.after if isinstance(step, ForgetAtMostStep)), None)

    @property
    def deciding(self) -> list[str]:
        """Languages on whose text something is decided; what decides cannot be measured too."""
        stops_early = any(stage.early_stopping for stage in self.expanded.values())
        learned = self.languages.learn if stops_early or self.forget_at_most else []
        return [*learned, *(self.languages.retain if self.forget_at_most else [])]

    @property
    def form(self) -> Export:
        """`export` of a resolved recipe."""
        assert self.export is not None, "the recipe is not resolved"
        return self.export

    @property
    def length(self) -> int:
        """`max_length` of a resolved recipe, in tokens."""
        assert self.max_length is not None, "the recipe is not resolved"
        return self.max_length
