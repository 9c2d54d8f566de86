"""The keys of a recipe, their types, and what can be said of each value on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lingraft.corpus.read import find_files
from lingraft.errors import UserError
from lingraft.evaluation.compare import Role
from lingraft.evaluation.samples import SAMPLES
from lingraft.languages import parse_language
from lingraft.methods import METHODS, Export
from lingraft.methods.base import Method
from lingraft.penalties import L2SP, Penalty
from lingraft.recipe.after import AnyStep, ForgetAtMostStep
from lingraft.recipe.section import Section

if TYPE_CHECKING:
    AnyMethod = Method
else:
    AnyMethod = Annotated[Union[tuple(METHODS.values())], Field(discriminator="name")]


def _checked_by(check: Callable[[str], Any]) -> AfterValidator:
    def validate(value: str) -> str:
        try:
            check(value)
        except UserError as error:
            raise ValueError(str(error)) from None
        return value

    return AfterValidator(validate)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


LanguageCode = Annotated[str, _checked_by(parse_language)]
FilePattern = Annotated[str, _checked_by(find_files)]
FilePatterns = Annotated[list[FilePattern], Field(min_length=1), BeforeValidator(_as_list)]
TaskName = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Languages(Section):
    """Which languages are learned, which are to be kept, which are only watched."""

    learn: list[LanguageCode] = Field(min_length=1)
    retain: list[LanguageCode] = []
    heldout: list[LanguageCode] = []

    @property
    def roles(self) -> dict[str, Role]:
        return {
            **dict.fromkeys(self.learn, "learn"),
            **dict.fromkeys(self.retain, "retain"),
            **dict.fromkeys(self.heldout, "heldout"),
        }


class CorpusEntry(Section):
    """Text to train on: files or a hub dataset, with a budget or a share of all tokens."""

    language: LanguageCode
    files: FilePatterns | None = None
    hub: str | None = None
    subset: str | None = None
    text_field: str = "text"
    tokens: Count | None = None
    share: Share | None = None
    repeat: Count = 1

    @model_validator(mode="after")
    def _one_source(self) -> CorpusEntry:
        if (self.files is None) == (self.hub is None):
            given = "neither" if self.files is None else "both"
            raise ValueError(f"give either 'files' or 'hub' ({given} are given)")
        if self.subset is not None and self.hub is None:
            raise ValueError("'subset' is of a hub dataset; give 'hub' too, or remove it")
        if self.tokens is not None and self.share is not None:
            raise ValueError("give either 'tokens' (a budget) or 'share' (of all tokens)")
        return self


class Penalties(Section):
    """What pulls trained weights back, beside any method."""

    l2sp: L2SP | None = None

    @property
    def given(self) -> dict[str, Penalty]:
        return {name: of for name in type(self).model_fields if (of := getattr(self, name)) is not None}


TOP_K = 64


class Replay(Section):
    """Text that the base writes itself, in place of text of the old languages (arXiv 2605.26097)."""

    self: Share
    """Of all tokens."""
    loss: Literal["kl", "ce"] = "kl"
    """kl: the base's own distribution is the target, ce: what it drew."""
    strength: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """For kl: what its mean over written tokens is multiplied by, beside the mean loss of the text; 1 if not said."""
    top_k: Count | None = None
    """For kl: so many of its likeliest next tokens are kept, all others count as one; 64 if not said."""
    batch: Count = 32
    """Blocks that are written at a time."""

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("loss", "kl") == "kl":
            return {"strength": 1.0, "top_k": TOP_K, **values}
        for name in ("strength", "top_k"):
            if values.get(name) is not None:
                raise ValueError(f"'{name}' is of loss kl, which has a distribution as its target; remove it")
        return values

    def weights(self, share: float) -> tuple[float, float]:
        """What a token of text, and one that the base wrote, counts for in a mean over both.

        For kl so that the loss is, in expectation over batches, the mean over text + strength * the mean over
        written tokens. `share`: that of written tokens among all. Where it is small, a batch with one of their
        blocks has a large gradient, and `max_grad_norm` clips it.
        """
        return (1 / (1 - share), self.strength / share) if self.strength is not None else (1.0, 1.0)


class EarlyStopping(Section):
    """Training ends when the loss on learned text that is kept for it has not fallen (arXiv 2606.00284 §3.1)."""

    patience: Count = 6
    """Evaluations, which are `training.eval_steps` apart."""


class Validation(Section):
    """The part of a learned language's documents that never trains."""

    share: Share = 0.05
    max_tokens: Count = 1_000_000
    blocks: Count = 64
    """Blocks per language that each evaluation during training looks at."""
    choice: Share | None = None
    """Of the text that would be measured, what decides instead: when training stops, how much of it is kept.

    A half, where something is decided and nothing is said.
    """


class Evaluation(Section):
    """What is measured before and after: text, which never trains even where it stands in the corpus, and tasks."""

    text: dict[LanguageCode, FilePatterns] = {}
    text_field: str = "text"
    tasks: dict[TaskName, dict[LanguageCode, FilePatterns]] = {}
    """Files of questions with choices, by task and language."""
    samples: Annotated[int, Field(ge=0)] = SAMPLES
    """Continuations per language that are shown side by side."""


class Recipe(Section):
    """A run. `load_recipe` fills in what is not given, so that a resolved recipe says everything."""

    base: str = Field(min_length=1)
    languages: Languages
    max_length: Annotated[int, Field(ge=8)] | None = None
    corpus: list[CorpusEntry] = Field(min_length=1)
    validation: Validation = Validation()
    method: AnyMethod
    penalties: Penalties = Penalties()
    replay: Replay | None = None
    early_stopping: EarlyStopping | None = None
    training: dict[str, Any] = {}
    after: list[AnyStep] = []
    evaluation: Evaluation = Evaluation()
    export: Export | None = None
    """What the result is written as; where it is not said, what the method comes nearest to a plain model with."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @property
    def instruct(self) -> str | None:
        """The instruct model that `after:` adds the language to, where there is one."""
        return next((step.like for step in reversed(self.after) if step.like), None)

    @property
    def forget_at_most(self) -> ForgetAtMostStep | None:
        """The step of `after:` that decides how much of the trained vector is kept, where there is one."""
        return next((step for step in self.after if isinstance(step, ForgetAtMostStep)), None)

    @property
    def written_share(self) -> float:
        """The share of all tokens that the base is to write itself."""
        return self.replay.self if self.replay else 0.0

    @property
    def deciding(self) -> list[str]:
        """Languages on whose text something is decided; what decides cannot be measured too."""
        learned = self.languages.learn if self.early_stopping or self.forget_at_most else []
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
