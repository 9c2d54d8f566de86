"""The shape of a penalty: a strict config with one verb, `prepare(model, base) -> PenaltyTerm`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import nn


class PenaltyTerm(Protocol):
    """A term of the loss whose gradient is known without autograd."""

    def add_gradients(self, scale: float) -> None:
        """Add the gradient, times what the loss is scaled by, to those of the loss: once an optimizer step,
        over whole gradients, before they are clipped.
        """

    def values(self) -> dict[str, float]:
        """The term as it stands, by layer group."""


class Penalty(BaseModel, ABC):
    """A penalty's settings; what stands under its name in a recipe's `penalties:`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @abstractmethod
    def prepare(self, model: nn.Module, base: Path) -> PenaltyTerm:
        """For a model that is ready to train, whose base lies in a folder.

        Raises:
            SelectionError: layers or layer groups that the model does not have.
        """
