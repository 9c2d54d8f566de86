"""How much of a trained vector to keep: as much as learns most and forgets no more than a limit.

    theta_G = theta_0,G + a_G (theta_1,G - theta_0,G)    in each layer group G

Training once, choosing afterwards. A point costs a forward pass over the text that decides. First one
factor for all groups goes from 0.1 to 1, then the best place below the limit is closed in on, then groups
are left at the base, those first that cost most forgetting for what they teach, and the others
scaled up again. A point keeps the limit where the upper end of its interval does, so that text that
took no part in the choice is likely to find it kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from lingraft.checkpoints.mmap_weights import MappedWeights
from lingraft.evaluation.bits_per_byte import TOKENS_PER_BATCH, sequence_nll
from lingraft.layer_groups import LayerGroup, LayerRange, layer_group

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Scales = Mapping[LayerGroup, float]
Nats = Mapping[str, npt.NDArray[np.float64]]
"""By language, of each block, (blocks,)."""

STEPS = tuple(round(0.1 * i, 1) for i in range(1, 11))
_HALVINGS = 4
_RESAMPLES = 1000


@dataclass(frozen=True)
class Point:
    """What a choice of factors learns and forgets, as in `results.json`, on the text that decides."""

    scales: dict[LayerGroup, float]
    learning: float
    forgetting: float
    at_most: float
    """The 97.5 % quantile of forgetting, by a bootstrap over blocks."""


def maximize_learning(
    limit: float, groups: Sequence[LayerGroup], measure: Callable[[Scales], Point]
) -> tuple[Point, list[Point]]:
    """The point that learns most within the limit, and all that were looked at, the first of them the curve."""
    curve = [measure(dict.fromkeys(groups, scale)) for scale in STEPS]
    seen = list(curve)

    def look(scales: Scales) -> Point:
        seen.append(measure(scales))
        return seen[-1]

    def closed_in(low: float, high: float, kept: Sequence[LayerGroup]) -> Point | None:
        """The largest factor of the groups that are kept, between one within the limit and one beyond."""
        found = None
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            looked = look({group: middle if group in kept else 0.0 for group in groups})
            if looked.at_most <= limit:
                low, found = middle, looked
            else:
                high = middle
        return found

    def most() -> Point:
        nothing = Point(dict.fromkeys(groups, 0.0), 0.0, 0.0, 0.0)
        return max([nothing, *(of for of in seen if of.at_most <= limit)], key=lambda of: of.learning)

    beyond = next((i for i, of in enumerate(curve) if of.at_most > limit), None)
    if beyond is not None:
        closed_in(STEPS[beyond - 1] if beyond else 0.0, STEPS[beyond], groups)
    best = most()
    scale = max(best.scales.values())
    if beyond is None or not scale:
        return best, seen
    without = {group: look({**best.scales, group: 0.0}) for group in groups}
    costs = {group: best.forgetting - of.forgetting for group, of in without.items()}
    teaches = {group: best.learning - of.learning for group, of in without.items()}
    order = sorted(groups, key=lambda group: costs[group] / max(teaches[group], 1e-9), reverse=True)
    for count in range(1, len(groups)):
        left_out = order[:count]
        if min(costs[group] for group in left_out) <= 0:
            break
        closer = closed_in(scale, 1.0, [group for group in groups if group not in left_out])
        if closer is None or closer.learning <= best.learning:
            break
        best = closer
    return most(), seen


def point(scales: Scales, before: Nats, after: Nats, learn: Sequence[str], retain: Sequence[str]) -> Point:
    """Learning and forgetting of two measurements of the same blocks."""
    random = np.random.default_rng(0)
    draws = {code: random.integers(0, len(before[code]), (_RESAMPLES, len(before[code]))) for code in retain}
    resampled = [after[code][draws[code]].sum(1) / before[code][draws[code]].sum(1) - 1 for code in retain]
    return Point(
        dict(scales),
        float(np.mean([1 - after[code].sum() / before[code].sum() for code in learn])),
        float(np.mean([after[code].sum() / before[code].sum() - 1 for code in retain])),
        float(np.quantile(np.mean(resampled, axis=0), 0.975)),
    )


class Interpolated:
    """A live model whose weights lie anywhere between two checkpoints."""

    def __init__(self, model: PreTrainedModel, base: MappedWeights, adapted: MappedWeights, layers: LayerRange) -> None:
        self.model, self.base, self.adapted = model.eval(), base, adapted
        self.group = {name: layer_group(name, layers) for name, _ in model.named_parameters()}

    @torch.no_grad()
    def go_to(self, scales: Scales) -> None:
        """theta_0,G + a_G (theta_1,G - theta_0,G); groups that are not named stay at the base."""
        for name, parameter in self.model.named_parameters():
            if self.group[name] == LayerGroup.OUTSIDE:  # never trained
                continue
            scale, weights = scales.get(self.group[name], 0.0), self.base[name].to(parameter.device).float()
            if scale:
                weights = torch.lerp(weights, self.adapted[name].to(parameter.device).float(), scale)
            parameter.copy_(weights)

    @torch.inference_mode()
    def nats(self, blocks: Mapping[str, Sequence[Sequence[int]]]) -> Nats:
        """What each block costs, by language."""
        return {
            code: np.array([nats for rows in _batches(of) for nats in sequence_nll(self.model, rows, [1] * len(rows))])
            for code, of in blocks.items()
        }


def _batches(rows: Sequence[Sequence[int]]) -> list[Sequence[Sequence[int]]]:
    size = max(1, TOKENS_PER_BATCH // max(map(len, rows)))
    return [rows[first : first + size] for first in range(0, len(rows), size)]
