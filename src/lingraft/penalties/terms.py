"""Terms of a penalty, each of one layer group, and their sum by layer group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lingraft.layer_groups import LayerGroup


class Term(Protocol):
    """A term on parameters of one layer group."""

    @property
    def group(self) -> LayerGroup: ...

    def add_gradient(self, scale: float) -> None: ...

    def value(self) -> Tensor: ...


@dataclass(frozen=True)
class Sum:
    """All terms of a penalty, as one `PenaltyTerm`, whose values are `<name>_<layer group>`."""

    name: str
    terms: Sequence[Term]

    @torch.no_grad()
    def add_gradients(self, scale: float) -> None:
        for term in self.terms:
            term.add_gradient(scale)

    @torch.no_grad()
    def values(self) -> dict[str, float]:
        sums: dict[str, Tensor] = {}
        for term in self.terms:
            value = term.value()
            sums[term.group] = sums[term.group] + value if term.group in sums else value
        found: Mapping[str, Tensor] = {group: sums[group] for group in LayerGroup if group in sums}
        return {f"{self.name}_{group}": float(value) for group, value in found.items()}
