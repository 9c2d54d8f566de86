"""The step of `max_forgetting`: select scales of the task vector on the selection split."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lingraft.cache import read_json, write_json
from lingraft.checkpoints.mmap_weights import MappedWeights
from lingraft.checkpoints.read import read_tokenizer
from lingraft.evaluation.bits_per_byte import Scored
from lingraft.evaluation.chat import answers_to_score
from lingraft.evaluation.chat_turns import turns_of
from lingraft.evaluation.measure import measuring_device, model_to_measure
from lingraft.languages import CHAT
from lingraft.layer_groups import LayerGroup, depth
from lingraft.merging.scale_selection import Interpolated, Point, Scales, maximize_learning, point
from lingraft.pipeline.blocks import HeldOutBlocks
from lingraft.pipeline.chat import GeneratedChat, generate_deciding_chat
from lingraft.pipeline.step import Artefact, step
from lingraft.pipeline.values import Model
from lingraft.recipe import Recipe
from lingraft.recipe.merge_steps import GroupScales, InterpolateStep, MaxForgettingStep, Step

logger = logging.getLogger(__name__)

FEW_BLOCKS = 8
"""With fewer of them, a bootstrap over blocks says little."""


class SelectedScales(Artefact):
    """The selected scales of the layer groups, and all candidates: `scales.json`."""

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = read_json(self.folder / "scales.json")
        return record

    def in_place_of_the_limit(self, steps: Sequence[Step]) -> list[Step]:
        """Return merge steps with the first, `max_forgetting`, replaced by the selected scales."""
        scales = GroupScales(**self.record["layers"], scale=self.record["chosen"]["scales"])
        return [InterpolateStep(interpolate=scales), *steps[1:]]


@step(SelectedScales)
def find_scales(
    folder: Path,
    limit: MaxForgettingStep,
    start: Model,
    adapted: Model,
    held_out: HeldOutBlocks,
    learn: Sequence[str],
    retain: Sequence[str],
    chat: GeneratedChat | None,
    device: str,
) -> None:
    """The factors of the layer groups that learn most and forget at most the limit; `device` is where is measured.

    Where there is `chat`, the base's answers in it are retained as a language is.
    """
    started = time.monotonic()
    text = {code: Scored.whole(held_out.selection(code)["input_ids"][:]) for code in [*learn, *retain]}
    for code, blocks in text.items():
        if len(blocks.rows) < FEW_BLOCKS:
            logger.warning(
                "%s: only %d blocks in the selection split; the interval of forgetting is rough", code, len(blocks.rows)
            )
    model = model_to_measure(start.folder)
    if chat:
        tokenizer = read_tokenizer(start.folder)
        text[CHAT] = answers_to_score(model, tokenizer, turns_of(model, tokenizer), chat.exchanges)
        retain = [*retain, CHAT]
    layers = limit.layers(depth(model.config))
    between = Interpolated(model, MappedWeights(start.folder), MappedWeights(adapted.folder), layers)
    groups = [group for group in LayerGroup if group in between.group.values() and group != LayerGroup.OUTSIDE]
    before = between.nats(text)

    def measure(scales: Scales) -> Point:
        between.go_to(scales)
        return point(scales, before, between.nats(text), learn, retain)

    best, seen = maximize_learning(limit.max_forgetting, groups, measure)
    shown = ", ".join(f"{group} {scale:.3g}" for group, scale in best.scales.items())
    logger.info(
        "max_forgetting %g: kept of the trained vector: %s; learning %.1f %%, forgetting %.2f %% (at most %.2f %%); "
        "%d points in %.0f s",
        *(limit.max_forgetting, shown, 100 * best.learning, 100 * best.forgetting, 100 * best.at_most),
        *(len(seen), time.monotonic() - started),
    )
    write_json(
        folder / "scales.json",
        {
            "limit": limit.max_forgetting,
            "layers": {"first": layers.first, "last": layers.last},
            "chosen": asdict(best),
            "points": [asdict(point) for point in seen],
        },
    )


def select_scales(
    recipe: Recipe,
    base: Model,
    start: Model,
    adapted: Model,
    held_out: HeldOutBlocks,
    chat: GeneratedChat | None,
    work: Path,
) -> SelectedScales | None:
    """Select the scales of `max_forgetting`; None if the recipe has no such step.

    Where `chat` is measured, the base's answers to other questions decide beside the retained languages.
    """
    if (limit := recipe.max_forgetting) is None:
        return None
    learn, retain = recipe.languages.learn, recipe.languages.retained
    deciding = generate_deciding_chat(recipe, base, chat, work) if chat else None
    return find_scales(work / "scales", limit, start, adapted, held_out, learn, retain, deciding, measuring_device())


def merge_steps(recipe: Recipe, scales: SelectedScales | None) -> list[Step]:
    """Return the merge steps of a run with `max_forgetting` replaced by the selected scales."""
    return scales.in_place_of_the_limit(recipe.merge) if scales else list(recipe.merge)


def warn_of_new_tokens(limit: MaxForgettingStep | None, forgotten: float | None) -> None:
    """Warn if new tokens alone cause more forgetting than the limit, which applies to training."""
    if limit is not None and forgotten is not None and forgotten > limit.max_forgetting:
        logger.warning(
            "max_forgetting %g is of what training forgets: retained languages lose %.1f %% by new tokens alone",
            *(limit.max_forgetting, 100 * forgotten),
        )
