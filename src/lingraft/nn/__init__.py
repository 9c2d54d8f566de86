"""Modules that are added to a model: the gated adapter, its local losses, and how others load it."""

from typing import Literal

Gate = Literal["none", "relu", "sigmoid"]
"""What scales the output of a gated adapter: nothing, or a function of one map of the input."""
Init = Literal["he", "low-variance"]
"""The deviation that a gated adapter's weights are drawn with."""
