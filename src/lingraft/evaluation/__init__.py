"""What was learned and what was forgotten, on the same bytes before and after."""

from lingraft.evaluation.suite import Suite

__all__ = ["Suite"]
