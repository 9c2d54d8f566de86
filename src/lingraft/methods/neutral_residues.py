"""Neutral residues: gated blocks that learn to stay silent on text like the base's."""

from __future__ import annotations

from typing import Literal

from lingraft.methods.parallel_adapters import Loss, ParallelAdapters
from lingraft.nn import Gate, Init


class NeutralResidues(ParallelAdapters):
    """Adapters with a gate on the whole block, and a loss that pulls their output to zero on old text.

        y = mlp(x) + ReLU(w x) W_o(act(W_g x) * W_i x)
        L = L_lm + loss_weight mean over blocks and tokens of old text of |block's output|_1 / D

    arXiv 2410.02744 §3: 20 % of the base's weights, loss_weight 0.01, a tenth of the tokens like the
    base's (the share of a corpus entry of a retained language), W_g, W_i and w from N(0, 1 / (D L)),
    learning rate 2e-4. Without such text the local loss has nothing to act on. `gate: sigmoid` with
    `loss: ce` is its second strategy: a classifier of old against new text, learned on both.
    """

    name: Literal["neutral-residues"] = "neutral-residues"
    gate: Gate = "relu"
    loss: Loss = "l1"
    init: Init = "low-variance"
