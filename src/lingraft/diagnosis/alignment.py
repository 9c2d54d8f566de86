"""Alignment: in which layers sentences of the same meaning lie closest, in two languages (MEXA, arXiv 2410.05873).

The score of a layer is the share of pairs that are aligned (`evaluation/alignment.py`).

Where sentences agree most, a model works on what languages share: there the middle layers lie, which methods with layer
groups keep. `propose` takes as the middle all layers whose input scores more than half of the highest score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lingraft.checkpoints.document_marks import document_marks
from lingraft.checkpoints.names import public_name
from lingraft.checkpoints.read import context_length, find_model, read_config
from lingraft.corpus.read import find_files
from lingraft.diagnosis.base import Diagnosis, Drawing, Settings, Table, shares_by_layer
from lingraft.diagnosis.finished_run import FinishedRun
from lingraft.errors import UserError
from lingraft.evaluation.alignment import LONGEST, Pairs, aligned_pairs, read_pairs
from lingraft.evaluation.measure import document_tokenizer, model_to_measure
from lingraft.languages import BETWEEN, code_of
from lingraft.layer_groups import LayerRange
from lingraft.reporting.figures import Figure

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

LEAST = 0.25
"""A score below which nothing is proposed."""
EARLY = 0.1
"""Of the depth: scores that are high only before it are of words that both sides have, which the first layers match."""
NEAR = 0.9
"""Of the highest score: what a later layer reaches where it is not the first ones that align."""
NOT_PROPOSED = "too few pairs are aligned, or in the first layers alone, by words that both sides have"
"""Why no layers are."""
HALF = 0.5
"""Of the highest score: what the input of a middle layer scores at least."""


def alignment(
    model: PreTrainedModel, tokenizer: DocumentTokenizer, pairs: Mapping[str, Pairs], longest: int
) -> dict[str, list[float]]:
    """Language pair -> the scores after the embeddings and after each layer."""
    return {
        title: [float(share) for share in aligned_pairs(model, tokenizer, of, longest).float().mean(1)]
        for title, of in pairs.items()
    }


def propose(of_pairs: Mapping[str, Sequence[float]]) -> LayerRange | None:
    """The layer groups that the scores of a model propose, of their mean over language pairs.

    None where no layer aligns a quarter of the pairs, or the first ones alone do: such scores are chance, and names and
    words that both sides have.
    """
    mean = np.mean(list(of_pairs.values()), axis=0)  # (layers + 1,)
    depth = len(mean) - 1
    later = mean[math.ceil(EARLY * depth) :]
    if mean.max() < LEAST or later.max() < NEAR * mean.max():
        return None
    middle = np.flatnonzero(mean[:-1] >= HALF * mean.max())  # by the input of each layer
    if not len(middle):
        return None
    first, last = int(middle[0]), depth - 1 - int(middle[-1])
    return LayerRange(max(first, 0 if last else 1), last, depth)


def alignment_of(given: Path, settings: Settings) -> dict[str, Any]:
    """The scores of a model, or of the base and the result of a run, and the layer groups that they propose.

    `settings.pairs` maps two languages with the fields of their sentences, `eng_Latn:eng,swh_Latn:swh`, to a file or
    pattern.

    Raises:
        UserError: no pairs, languages without fields, or a file without pairs.
    """
    files = settings.pairs
    if not files:
        raise UserError("diagnose alignment: give pairs of sentences, as in --pairs eng_Latn:eng,swh_Latn:swh=FILE")
    pairs = dict(_read(languages, file) for languages, file in files.items())
    is_run = (given / "recipe.resolved.yaml").is_file()
    run = FinishedRun(given)
    models = {"base": run.base.folder, "result": run.model} if is_run else {given.name: find_model(str(given))}
    found = {}
    for name, folder in models.items():
        tokenizer = document_tokenizer(folder, run.marks(folder) if is_run else document_marks(folder))
        of = alignment(model_to_measure(folder), tokenizer, pairs, min(LONGEST, context_length(read_config(folder))))
        proposed = propose(of)
        groups = {"first": proposed.first, "last": proposed.last, "depth": proposed.depth} if proposed else None
        found[name] = {"scores": of, "proposed": groups}
    return {"run": given.name, "base": public_name(str(models.get("base", given))), "models": found}


def _read(languages: str, file: str) -> tuple[str, Pairs]:
    """The title of a language pair, and its first sentences."""
    fields = [part.partition(":") for part in languages.split(",")]
    if len(fields) != 2 or not all(colon and field for _, colon, field in fields):
        raise UserError(
            f"--pairs {languages}={file}: give two languages with their fields, as in eng_Latn:eng,swh_Latn:swh=FILE"
        )
    (one, _, first), (other, _, second) = fields
    return BETWEEN.join([code_of(one), code_of(other)]), read_pairs(find_files(file), (first, second))


def _draw(result: dict[str, Any]) -> Drawing:
    figures, rows, titles = list[tuple[str, Figure]](), list[list[str]](), list[str]()
    for name, of_model in result["models"].items():
        titles = list(of_model["scores"])
        title = f"{name}: aligned pairs by layer, in percent; 0 are the embeddings"
        figures.append((title, shares_by_layer(of_model["scores"], 360)))
        most = [f"{100 * max(of):.0f} %" for of in of_model["scores"].values()]
        rows.append([name, *most, _groups(of_model["proposed"])])
    head = ["model", *(f"{title}, most" for title in titles), "layer groups proposed"]
    return Drawing(figures, [Table("Alignment", head, rows)])


def _groups(proposed: Mapping[str, int] | None) -> str:
    if proposed is None:
        return f"none: {NOT_PROPOSED}"
    return f"{proposed['first']} first and {proposed['last']} last of {proposed['depth']}"


ALIGNMENT = Diagnosis(
    "alignment",
    alignment_of,
    _draw,
    lambda result: (
        "In which layers sentences of the same meaning lie closest (MEXA, arXiv 2410.05873): the share of pairs of "
        "which each is the other’s nearest. Where they agree most, a model works on what languages share."
    ),
)
