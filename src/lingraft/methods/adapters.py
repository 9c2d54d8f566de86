"""Feed-forward blocks added in parallel, without a gate."""

from __future__ import annotations

from typing import Literal

from lingraft.methods.parallel_adapters import Loss, ParallelAdapters
from lingraft.nn import Gate, Init


class Adapters(ParallelAdapters):
    """A gated linear unit beside every feed-forward block; the base is frozen.

        y = mlp(x) + W_o(act(W_g x) * W_i x)

    The activation is the base's, W_o starts at zero, W_g and W_i from N(0, 2 / D). The baseline "vanilla adapters" of
    arXiv 2410.02744 §4.1: 20 % of the base's weights, learning rate 2e-4.
    """

    name: Literal["adapters"] = "adapters"
    gate: Gate = "none"
    loss: Loss = "none"
    init: Init = "he"
