"""Penalties on the distance to the base (regularization), beside any method; listed here."""

from lingraft.penalties.base import Penalty, PenaltyTerm
from lingraft.penalties.context import PenaltyContext
from lingraft.penalties.ewc import EWC
from lingraft.penalties.l2sp import L2SP

PENALTIES: dict[str, type[Penalty]] = {
    "l2sp": L2SP,
    "ewc": EWC,
}

__all__ = ["PENALTIES", "Penalty", "PenaltyContext", "PenaltyTerm"]
