"""The interface of an evaluation suite: texts or questions, measured under a model, compared before and after.

A suite is one file of this package. It has a fingerprint of its data, measures a model, converts measurements to and
from JSON, and turns two measurements into its part of `results.json`. `suites/__init__.py` lists them.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lingraft.languages import Role

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

logger = logging.getLogger(__name__)

Roles = Mapping[str, Role]
"""Language -> its role."""
M = TypeVar("M")


class Suite(ABC, Generic[M]):
    """One way to measure a model; `M` is the measurement of one language."""

    name: str
    """Unique among the suites of a run."""
    uses_chat = False
    """Whether what it measures depends on the model's chat template or generation config."""

    @property
    @abstractmethod
    def fingerprint(self) -> Any:
        """The fingerprint of the suite's texts or questions."""

    @abstractmethod
    def measure(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> Mapping[str, M]:
        """Measure a model on the suite's texts or questions; language -> measurement.

        Raises:
            CorpusError: nothing can be scored.
        """

    @abstractmethod
    def to_json(self, measured: Mapping[str, M]) -> Any:
        """A measurement as JSON, by document or by question."""

    @abstractmethod
    def from_json(self, stored: Any) -> Mapping[str, M]:
        """A measurement from its JSON."""

    @abstractmethod
    def compare(self, after: Mapping[str, M], before: Mapping[str, M] | None, roles: Roles) -> dict[str, Any]:
        """The suite's keys of `schema.Results`; without `before` only `after` is given.

        A language without a role has the role `observe`.
        """


class Progress:
    """Logs progress once a minute."""

    def __init__(self, name: str) -> None:
        self.name, self.logged = name, time.monotonic()

    def __call__(self, share: float) -> None:
        if time.monotonic() - self.logged > 60 and share < 1:
            self.logged = time.monotonic()
            logger.info("%s: %.0f %% measured", self.name, 100 * share)
