"""Evaluation: learning and forgetting, measured on the same bytes before and after."""

from lingraft.evaluation.suite import Suite

__all__ = ["Suite"]
