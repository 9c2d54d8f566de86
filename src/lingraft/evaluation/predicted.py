"""Which tokens of a text a model predicts greedily: what its in-context abilities are read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lingraft.evaluation.bits_per_byte import TOKENS_PER_BATCH, hidden_states
from lingraft.nn.chunked_cross_entropy import top_k_log_probs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Span = tuple[int, int]
"""The first token of a part of a row, and the one after its last; before the first stands another."""


@torch.no_grad()
def predicted(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], spans: Sequence[Sequence[Span]]
) -> list[list[float]]:
    """Of each row, for each of its spans: the share of tokens that are the likeliest after all before them.

    An empty span is predicted by 0.
    """
    model.eval()
    size = max(1, TOKENS_PER_BATCH // max(map(len, rows)))
    shares: list[list[float]] = []
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        input_ids, hidden = hidden_states(model, batch)
        for i, (row, of_row) in enumerate(zip(batch, spans[first : first + size], strict=True)):
            start = min((begin for begin, _ in of_row), default=1)
            best, _ = top_k_log_probs(model, hidden[i, start - 1 : len(row) - 1], 1)  # (tokens, 1)
            right = (best[:, 0] == input_ids[i, start : len(row)]).float().cpu()
            parts = [right[begin - start : end - start] for begin, end in of_row]
            shares.append([float(part.mean()) if len(part) else 0.0 for part in parts])
    return shares
