"""Select the scales of a task vector that learn most within a limit on forgetting.

    theta_G = theta_0,G + a_G (theta_1,G - theta_0,G)    in each layer group G

One training serves many candidates; a candidate costs a forward pass over the selection split. First, one
factor for all groups goes from 0.1 to 1. Then bisection finds the largest factor within the limit. Then
groups are set back to the base, in the order of most forgetting per learning, and the other groups are
scaled up again. A candidate is within the limit where the upper end of its interval is, so that the limit
is likely to hold on text outside the selection split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from lingraft.checkpoints.mmap_weights import MappedWeights
from lingraft.evaluation.bits_per_byte import Scored
from lingraft.layer_groups import LayerGroup, LayerRange, layer_group

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Scales = Mapping[LayerGroup, float]
Nats = Mapping[str, npt.NDArray[np.float64]]
"""Language, or chat -> nats of each block or answer, (rows,)."""

STEPS = tuple(round(0.1 * i, 1) for i in range(1, 11))
_HALVINGS = 4
_RESAMPLES = 1000


@dataclass(frozen=True)
class Point:
    """Learning and forgetting at given scales, as in `results.json`, on the selection split."""

    scales: dict[LayerGroup, float]
    learning: float
    forgetting: float
    at_most: float
    """The 97.5 % quantile of forgetting, by a bootstrap over blocks."""


def maximize_learning(
    limit: float, groups: Sequence[LayerGroup], measure: Callable[[Scales], Point]
) -> tuple[Point, list[Point]]:
    """The candidate that learns most within the limit, and all candidates; the first are the curve of one factor."""
    curve = [measure(dict.fromkeys(groups, scale)) for scale in STEPS]
    seen = list(curve)

    def look(scales: Scales) -> Point:
        seen.append(measure(scales))
        return seen[-1]

    def closed_in(low: float, high: float, kept: Sequence[LayerGroup]) -> Point | None:
        """Bisect for the largest factor of the kept groups, between one within the limit and one beyond."""
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
        return max(
            [nothing, *(candidate for candidate in seen if candidate.at_most <= limit)],
            key=lambda candidate: candidate.learning,
        )

    beyond = next((i for i, candidate in enumerate(curve) if candidate.at_most > limit), None)
    if beyond is not None:
        closed_in(STEPS[beyond - 1] if beyond else 0.0, STEPS[beyond], groups)
    best = most()
    scale = max(best.scales.values())
    if beyond is None or not scale:
        return best, seen
    without = {group: look({**best.scales, group: 0.0}) for group in groups}
    costs = {group: best.forgetting - candidate.forgetting for group, candidate in without.items()}
    teaches = {group: best.learning - candidate.learning for group, candidate in without.items()}
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
    """A live model whose weights are interpolated between two checkpoints."""

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
    def nats(self, text: Mapping[str, Scored]) -> Nats:
        """Nats of each row, by language."""
        return {code: np.array(scored.nats(self.model)) for code, scored in text.items()}
