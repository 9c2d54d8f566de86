"""Interpolation: what the movement of one layer group costs and gives (arXiv 2606.00284, Section 4.1, Figure 3).

    theta_G(alpha) = theta_0_G + alpha (theta_G - theta_0_G),   all other groups as they are after training

At alpha = 0 the group is the base's, at 1 it is the result's. Base and result are read once; the weights move in place.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lingraft.checkpoints.mmap_weights import MappedWeights
from lingraft.diagnosis.base import Diagnosis, Drawing, Settings, Table, groups_sentence
from lingraft.diagnosis.finished_run import FinishedRun
from lingraft.evaluation.bits_per_byte import BitsPerByte
from lingraft.evaluation.harness import load_suites
from lingraft.evaluation.measure import document_tokenizer, model_to_measure
from lingraft.evaluation.suites import list_abilities
from lingraft.evaluation.task_scores import TaskSuite
from lingraft.layer_groups import LayerGroup, LayerRange, layer_group
from lingraft.pipeline.text import read_sentence_pairs
from lingraft.reporting.figures import Figure, curves
from lingraft.reporting.read import GROUPS, language_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def _measure(given: Path, settings: Settings) -> dict[str, Any]:
    run = FinishedRun(given)
    tasks, _ = load_suites(settings.suites, list(run.recipe.languages.roles), settings.datasets, settings.limit)
    found = interpolation(run, settings.first, settings.last, max_documents=settings.max_documents, tasks=tasks)
    return {**run.names, **found}


@torch.no_grad()
def interpolation(
    run: FinishedRun,
    first: int | None = None,
    last: int | None = None,
    alphas: Sequence[float] = ALPHAS,
    max_documents: int | None = None,
    tasks: Sequence[TaskSuite] = (),
) -> dict[str, Any]:
    """By layer group and alpha: bits per byte of each language, in-context abilities, and the first figure of tasks.

    `max_documents` of each language are measured; all by default. A group that did not move is left out.
    """
    started, layers = time.monotonic(), run.layers(first, last)
    texts = {code: documents[:max_documents] for code, documents in run.texts.items()}
    abilities = list_abilities(texts, run.recipe.evaluation.num_sequences, read_sentence_pairs(run.recipe))
    tasks = [*abilities, *tasks]
    bits = BitsPerByte(texts)
    model, tokenizer = model_to_measure(run.model), document_tokenizer(run.model, run.recipe.marks)
    run.pairs()  # refuses a result of other shapes
    base = MappedWeights(run.base.folder)
    members = moved_parameters(model, base, layers)

    def measured() -> dict[str, dict[str, float]]:
        scores = bits.measure(model, tokenizer, run.recipe.length)
        found = {"bits per byte": {code: of.bits_per_byte for code, of in scores.items()}}
        for task in tasks:
            answered = task.measure(model, tokenizer, run.recipe.length)
            found[task.title] = {code: of.figure(task.metrics[0]) for code, of in answered.items()}
        return found

    whole = measured()
    curves = {}
    for group in [group for group in LayerGroup if group in members]:
        ends = {name: parameter.clone() for name, parameter in members[group].items()}
        curve = []
        for alpha in alphas:
            logger.info("%s layers: alpha %g", group, alpha)
            for name, parameter in members[group].items():
                start = base[name].to(parameter)
                parameter.copy_(start + alpha * (ends[name] - start))
            curve.append({"alpha": alpha, **(whole if alpha == 1 else measured())})
        for name, parameter in members[group].items():
            parameter.copy_(ends[name])
        curves[str(group)] = curve
    return {
        "first": layers.first,
        "last": layers.last,
        "depth": layers.depth,
        "roles": dict(run.recipe.languages.roles),
        "groups": curves,
        "seconds": time.monotonic() - started,
    }


def moved_parameters(
    model: PreTrainedModel, base: MappedWeights, layers: LayerRange
) -> dict[LayerGroup, dict[str, torch.Tensor]]:
    """By group, the parameters of a live model that are others than the base's; all experts of a block are one."""
    members: dict[LayerGroup, dict[str, torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        if not torch.equal(base[name].to(parameter), parameter):
            members.setdefault(layer_group(name, layers), {})[name] = parameter
    return members


def costs(found: Mapping[str, Any], title: str, code: str) -> dict[str, float]:
    """By group: the score of the result less that with the group reverted to the base's."""
    return {
        group: curve[-1][title][code] - curve[0][title][code]
        for group, curve in found["groups"].items()
        if code in curve[0].get(title, {})
    }


def _draw(result: dict[str, Any]) -> Drawing:
    figures, tables = list[tuple[str, Figure]](), list[Table]()
    titles = dict.fromkeys(title for curve in result["groups"].values() for title in curve[0] if title != "alpha")
    for title in titles:
        factor, unit = (1.0, "bits per byte") if title == "bits per byte" else (100.0, "%")
        codes = dict.fromkeys(code for curve in result["groups"].values() for code in curve[0][title])
        for code in codes:
            lines = {
                GROUPS.get(group, group): [(point["alpha"], factor * point[title][code]) for point in curve]
                for group, curve in result["groups"].items()
            }
            name = f"{language_name(code)} ({result['roles'].get(code, 'observe')}), {title}"
            figures.append((name, curves(lines, list(lines), across="alpha", unit=unit, height=300)))
        of_codes = {code: costs(result, title, code) for code in codes}
        rows = [
            [GROUPS.get(group, group), *(f"{factor * of_codes[code][group]:+.4f}" for code in codes)]
            for group in result["groups"]
        ]
        caption = f"What the movement of a group does to {title}: the result less the result with the group of the base"
        tables.append(Table(caption, ["layer group", *(language_name(code) for code in codes)], rows))
    return Drawing(figures, tables)


INTERPOLATION = Diagnosis(
    "interpolation",
    _measure,
    _draw,
    lambda result: (
        "One layer group at a time goes from the base’s weights (alpha 0) to the result’s (alpha 1); all other groups "
        f"stay as training left them. {groups_sentence(result)}"
    ),
)
