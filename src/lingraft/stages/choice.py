"""`forget_at_most:` of a recipe: how much of what was trained is kept, decided on text kept for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lingraft.artefacts import read_json, stage_fingerprint, write_json
from lingraft.checkpoints.mapped import MappedWeights
from lingraft.checkpoints.read import model_fingerprint
from lingraft.corpus.tokenize import open_table
from lingraft.evaluation.limit import Interpolated, Point, Scales, best_within, point
from lingraft.evaluation.measure import measuring_device, model_to_measure
from lingraft.layer_groups import LayerGroup, depth
from lingraft.recipe import Recipe
from lingraft.recipe.after import ForgetAtMostStep, GroupScales, InterpolateStep, Step
from lingraft.stages import one_after_another

logger = logging.getLogger(__name__)

FEW_BLOCKS = 8
"""With fewer of them, a bootstrap over blocks says little."""


def choose(recipe: Recipe, base: Path, adapted: Path, blocks: Path, work: Path) -> Path | None:
    """`choice.json`: the factors of the layer groups, and every point that was looked at."""
    step = recipe.forget_at_most
    if step is None:
        return None
    inputs = {
        "adapted": stage_fingerprint(adapted),
        "base": model_fingerprint(base),
        "blocks": stage_fingerprint(blocks),
        "step": step.model_dump(),
        "roles": recipe.languages.roles,
        "device": measuring_device(),
    }
    return one_after_another(
        work / "choice", inputs, lambda folder: _choose(recipe, step, base, adapted, blocks, folder)
    )


def _choose(recipe: Recipe, step: ForgetAtMostStep, base: Path, adapted: Path, blocks: Path, folder: Path) -> None:
    started = time.monotonic()
    languages = recipe.languages
    text = {code: open_table(blocks / f"choice-{code}.arrow")["input_ids"][:] for code in languages.roles}
    text = {code: rows for code, rows in text.items() if code not in languages.heldout}
    for code in [*languages.learn, *languages.retain]:
        if len(text[code]) < FEW_BLOCKS:
            logger.warning("%s: %d blocks of text decide; the interval of forgetting is rough", code, len(text[code]))
    model = model_to_measure(base)
    layers = step.layers(depth(model.config))
    between = Interpolated(model, MappedWeights(base), MappedWeights(adapted / "model"), layers)
    groups = [group for group in LayerGroup if group in between.group.values() and group != LayerGroup.OUTSIDE]
    before = between.nats(text)

    def measure(scales: Scales) -> Point:
        between.go_to(scales)
        return point(scales, before, between.nats(text), languages.learn, languages.retain)

    best, seen = best_within(step.forget_at_most, groups, measure)
    seconds = time.monotonic() - started
    shown = ", ".join(f"{group} {scale:.3g}" for group, scale in best.scales.items())
    logger.info(
        "forget_at_most %g: kept of the trained vector: %s; learning %.1f %%, forgetting %.2f %% (at most %.2f %%); "
        "%d points in %.0f s",
        *(step.forget_at_most, shown, 100 * best.learning, 100 * best.forgetting, 100 * best.at_most),
        *(len(seen), seconds),
    )
    write_json(
        folder / "choice.json",
        {
            "limit": step.forget_at_most,
            "layers": {"first": layers.first, "last": layers.last},
            "chosen": asdict(best),
            "points": [asdict(point) for point in seen],
        },
    )


def warn_of_new_words(recipe: Recipe, forgotten: float | None) -> None:
    """Say where new words alone cost retained languages more than the limit, which is of what training forgets."""
    step = recipe.forget_at_most
    if step is not None and forgotten is not None and forgotten > step.forget_at_most:
        logger.warning(
            "forget_at_most %g is of what training forgets: retained languages lose %.1f %% by new words alone",
            *(step.forget_at_most, 100 * forgotten),
        )


def chosen_steps(recipe: Recipe, choice: Path | None) -> Sequence[Step]:
    """`after:` with the factors that were found in place of the limit."""
    if choice is None:
        return recipe.after
    found: dict[str, Any] = read_json(choice / "choice.json")
    scales = GroupScales(**found["layers"], scale=found["chosen"]["scales"])
    return [InterpolateStep(interpolate=scales), *recipe.after[1:]]
