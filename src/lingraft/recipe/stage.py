"""One stage of a recipe: its text, method, penalties, replay, training settings and merge steps."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, create_model, model_validator

from lingraft.methods import METHODS
from lingraft.methods.base import Method
from lingraft.penalties import PENALTIES, Penalty
from lingraft.recipe.merge_steps import AnyStep
from lingraft.recipe.section import Section
from lingraft.recipe.text import CorpusEntry, Instructions
from lingraft.recipe.types import Count, Share

if TYPE_CHECKING:
    AnyMethod = Method
else:
    AnyMethod = Annotated[Union[tuple(METHODS.values())], Field(discriminator="name")]


class _Penalties(Section):
    @property
    def given(self) -> dict[str, Penalty]:
        """The penalties that the recipe names."""
        return {name: of for name in type(self).model_fields if (of := getattr(self, name)) is not None}

    @property
    def record(self) -> dict[str, dict[str, Any]]:
        """Settings of each penalty that the recipe names, as `lingraft.json` has them."""
        return {name: settings.model_dump() for name, settings in self.given.items()}


if TYPE_CHECKING:
    Penalties = _Penalties
else:
    Penalties = create_model(
        "Penalties",
        __base__=_Penalties,
        __doc__="Penalties on the distance to the base (regularization), beside any method.",
        __module__=__name__,
        **{name: (penalty | None, None) for name, penalty in PENALTIES.items()},
    )


TOP_K = 64
ReplaySource = Literal["document", "chat"]


class Replay(Section):
    """Self-generated text, in place of text of the old languages (arXiv 2605.26097)."""

    self_generated: Share
    """Of all tokens."""
    sources: dict[ReplaySource, Annotated[float, Field(gt=0, le=1)]] = Field({"document": 1.0}, alias="from")
    """What the base generates, by its share: documents, and conversations in its chat template. Where `chat` is
    retained, a half of each."""
    loss: Literal["kl", "ce"] = "kl"
    """kl: the base's own distribution is the target, ce: what it drew."""
    kl_weight: Annotated[float, Field(gt=0)] | None = None
    """For kl: what its mean over written tokens is multiplied by, beside the mean loss of the text; 1 if not said."""
    top_k: Count | None = None
    """For kl: so many of its likeliest next tokens are kept, all others count as one; 64 if not said."""
    batch_size: Count = 32
    """Blocks that are written at a time."""

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("loss", "kl") == "kl":
            return {"kl_weight": 1.0, "top_k": TOP_K, **values}
        for name in ("kl_weight", "top_k"):
            if values.get(name) is not None:
                raise ValueError(f"'{name}' is of loss kl, which has a distribution as its target; remove it")
        return values

    @model_validator(mode="after")
    def _check(self) -> Replay:
        if abs(sum(self.sources.values()) - 1) > 1e-6:
            raise ValueError(f"'from': the shares add up to {sum(self.sources.values()):g}; they must add up to 1")
        return self

    def weights(self, share: float) -> tuple[float, float]:
        """Return the weights of a token of text and of a self-generated token in a mean over both.

        For kl so that the loss is, in expectation over batches, the mean over text + kl_weight * the mean over
        written tokens. `share`: that of written tokens among all. Where it is small, a batch with one of their
        blocks has a large gradient, and `max_grad_norm` clips it.
        """
        return (1 / (1 - share), self.kl_weight / share) if self.kl_weight is not None else (1.0, 1.0)


class EarlyStopping(Section):
    """End training when the loss on the selection split stops falling (arXiv 2606.00284 §3.1)."""

    patience: Count = 6
    """Evaluations, which are `training.eval_steps` apart."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """Nats per token by which a loss must be below the lowest before to count as lower."""


class Pull(Section):
    """theta <- (1 - beta) theta + beta theta_0, periodically (arXiv 2501.05559)."""

    every: Annotated[float, Field(gt=0, le=1)]
    """A share of all steps, after each of which the weights are pulled."""
    beta: Annotated[float, Field(gt=0, le=1)]


class Averaging(Section):
    """Averages of weights while training."""

    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The exported weights are the moving average: average <- ema average + (1 - ema) theta (arXiv 2506.00288)."""
    pull: Pull | None = None
    """The weights of the base are pulled to where they started."""

    @model_validator(mode="after")
    def _one_at_least(self) -> Averaging:
        if self.ema is None and self.pull is None:
            raise ValueError("give ema, or pull, or both")
        return self


class Stage(Section):
    """The keys of a stage; in the short form they are keys of the recipe."""

    corpus: list[CorpusEntry] = []
    instructions: list[Instructions] | None = None
    """In place of a corpus: conversations, of which the answers are learned."""
    chat_template: str | None = None
    """Of instructions: a file with the template, or the model that has it; the base's own where it is not said."""
    method: AnyMethod
    penalties: Penalties = Penalties()
    replay: Replay | None = None
    early_stopping: EarlyStopping | None = None
    averaging: Averaging | None = None
    training: dict[str, Any] = {}
    """Arguments of transformers' Trainer, by their names; defaults are the method's. `optim` may also be `muon`:
    matrices of the layers are trained by Muon, all else, such as stacks of experts, by AdamW (arXiv 2502.16982).
    `embedding_learning_rate` is that of embeddings and head; `learning_rate` where it is not given."""
    merge: list[AnyStep] = []

    @property
    def replays_chat(self) -> bool:
        """Whether conversations of the base are replayed."""
        return self.replay is not None and "chat" in self.replay.sources

    def has_old_text(self, retained: Collection[str]) -> bool:
        """Whether text like the base's trains: self-generated text, or a corpus of one of these languages."""
        return self.replay is not None or any(code in retained for entry in self.corpus for code in entry.languages)

    @property
    def self_generated_share(self) -> float:
        """The share of all tokens that are self-generated."""
        return self.replay.self_generated if self.replay else 0.0
