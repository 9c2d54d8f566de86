"""The Trainer's arguments with those of lingraft."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

MUON = "muon"
"""An optimizer that TrainingArguments have no name for."""


@dataclass
class GraftArguments(TrainingArguments):
    """TrainingArguments, `optim: muon`, and a learning rate of embeddings and head.

    Raises:
        ValueError: the arguments do not go together.
    """

    embedding_learning_rate: float | None = None
    """Of embeddings and head, and of rows of new tokens in them; `learning_rate` where it is None."""
    has_muon: bool = field(default=False, init=False)
    """Whether the optimizer is Muon."""

    def __post_init__(self) -> None:
        if self.optim == MUON:
            if self.optim_args:
                raise ValueError(f"optim_args {self.optim_args}: {MUON} takes none")
            self.has_muon, self.optim = True, "adamw_torch"
        super().__post_init__()  # type: ignore[no-untyped-call]
