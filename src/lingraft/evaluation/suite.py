"""The shape of an evaluation suite: texts or questions, measured under a model, and compared before and after.

A suite is one file of this package. It says what it is made of, measures, keeps what it measured as JSON, and turns
two measurements into its part of `results.json`. `build_suites` lists the suites of a run.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lingraft.languages import Role

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

Roles = Mapping[str, Role]
"""Language -> its role."""
M = TypeVar("M")


class Suite(ABC, Generic[M]):
    """One way to measure a model; `M` is what it measures, by language."""

    name: str
    """Tells it from the other suites of a run."""

    @property
    @abstractmethod
    def fingerprint(self) -> Any:
        """Stands for all that models are measured on."""

    @abstractmethod
    def measure(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Mapping[str, M]:
        """Language -> what the model makes of the suite's texts or questions.

        Raises:
            CorpusError: there is nothing that can be scored.
        """

    @abstractmethod
    def to_json(self, measured: Mapping[str, M]) -> Any:
        """What was measured, document by document or question by question."""

    @abstractmethod
    def from_json(self, stored: Any) -> Mapping[str, M]:
        """What `to_json` gave."""

    @abstractmethod
    def compare(self, after: Mapping[str, M], before: Mapping[str, M] | None, roles: Roles) -> dict[str, Any]:
        """Its keys of `schema.Results`. Without `before` only `after` is written; a language without a role is
        `observe`.
        """


class Progress:
    """A log line a minute, for what takes longer."""

    def __init__(self, name: str) -> None:
        self.name, self.logged = name, time.monotonic()

    def __call__(self, share: float) -> None:
        if time.monotonic() - self.logged > 60 and share < 1:
            self.logged = time.monotonic()
            logger.info("%s: %.0f %% measured", self.name, 100 * share)
