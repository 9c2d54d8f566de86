"""The shape of a penalty: a strict config with one verb, `prepare(context) -> PenaltyTerm`.

A penalty owns all that is said of it: its settings in a recipe, whether they fit the base and the method, the memory
that it needs, its values in the log, and its title in the report. The contract test holds every penalty to these laws:
its values are 0 at the base, its gradient is the derivative of its values, and preparing it changes neither the model
nor the random numbers of training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import nn

    from lingraft.methods.base import Method
    from lingraft.penalties.context import PenaltyContext


class PenaltyTerm(Protocol):
    """A term of the loss whose gradient is known without autograd."""

    def add_gradients(self, scale: float) -> None:
        """Add the gradient, times what the loss is scaled by, to those of the loss: once an optimizer step,
        over whole gradients, before they are clipped.
        """

    def values(self) -> dict[str, float]:
        """The term as it stands, as the log names it: `<name>_<layer group>`, or `<name>_<part>` of parts of its own.

        They add up to the term.
        """


class Penalty(BaseModel, ABC):
    """A penalty's settings: what stands under its name in a recipe's `penalties:`, and in `lingraft.json`."""

    name: ClassVar[str]
    """Its key in a recipe and in `PENALTIES`, and the beginning of its keys in the log."""
    title: ClassVar[str]
    """What the report calls it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def problems(self, config: Any, method: Method) -> Iterator[str]:
        """What does not fit a base with this config, or the method beside it; said when the recipe loads."""
        if "plain" not in method.exports(config):
            yield f"'{method.name}' trains no parameter of the base, so there is nothing to regularize; remove it"

    def memory(self, model: nn.Module) -> int:
        """Bytes that it holds on the device of training; `model` is adapted, and may be without weights (meta)."""
        return 0

    @abstractmethod
    def prepare(self, context: PenaltyContext) -> PenaltyTerm:
        """The term of a model that is ready to train.

        Raises:
            SelectionError: layers or layer groups that the model does not have, or no parameter of the base trains.
        """
