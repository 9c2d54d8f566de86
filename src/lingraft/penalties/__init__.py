"""Penalties on the distance to the base (regularization), beside any method; listed here."""

from lingraft.penalties.base import Penalty, PenaltyTerm
from lingraft.penalties.l2sp import L2SP

PENALTIES: dict[str, type[Penalty]] = {"l2sp": L2SP}

__all__ = ["L2SP", "PENALTIES", "Penalty", "PenaltyTerm"]
