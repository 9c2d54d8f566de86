"""Alignment: in which layers sentences of the same meaning lie closest, in two languages (MEXA, arXiv 2410.05873).

A sentence's vector at a layer is the mean of its tokens' hidden states, weighted by position, since a causal model
knows more at the end: v = sum_t t h_t / sum_t t. A pair (a_i, b_i) is aligned where cos(a_i, b_i) is the largest of all
cos(a_i, b_j) and of all cos(a_j, b_i). The score of a layer is the share of pairs that are: chance is about 1/n.

Where sentences agree most, a model works on what languages share: there the middle layers lie, which methods with layer
groups keep. `propose` takes as the middle all layers whose input scores more than half of the highest score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lingraft.checkpoints.document_marks import document_marks
from lingraft.checkpoints.names import public_name
from lingraft.checkpoints.read import context_length, find_model, read_config
from lingraft.corpus.read import find_files, read_records
from lingraft.diagnosis.base import Diagnosis, Drawing, Settings, Table, shares_by_layer
from lingraft.diagnosis.finished_run import FinishedRun
from lingraft.errors import CorpusError, UserError
from lingraft.evaluation.bits_per_byte import TOKENS_PER_BATCH, padded
from lingraft.evaluation.measure import document_tokenizer, model_to_measure
from lingraft.languages import BETWEEN, code_of
from lingraft.layer_groups import LayerRange
from lingraft.reporting.figures import Figure

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

Pairs = Sequence[tuple[str, str]]

FEWEST_CHARACTERS = 30
"""Of a sentence; shorter ones are names and headings, which say little of a language."""
LONGEST = 256
"""Tokens of a sentence at most."""

MOST_PAIRS = 100
"""Of each language pair, as in the paper."""
LEAST = 0.25
"""A score below which nothing is proposed."""
EARLY = 0.1
"""Of the depth: a highest score before it is of words that both sides have, which the first layers match."""
HALF = 0.5
"""Of the highest score: what the input of a middle layer scores at least."""


@torch.no_grad()
def sentence_vectors(
    model: PreTrainedModel, tokenizer: DocumentTokenizer, sentences: Sequence[str], longest: int
) -> Tensor:
    """The vectors of sentences after the embeddings and after each layer, (layers + 1, sentences, D), of length 1."""
    model.eval()
    rows = [(tokenizer.bos_ids + ids)[:longest] or tokenizer.eos_ids for ids in tokenizer.encode(sentences)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    vectors: list[Tensor | None] = [None] * len(rows)
    size = max(1, TOKENS_PER_BATCH // max(map(len, rows)))
    for first in range(0, len(order), size):
        batch = order[first : first + size]
        ids = padded([rows[i] for i in batch])  # (batch, T)
        lengths = torch.tensor([len(rows[i]) for i in batch])[:, None]
        places = torch.arange(1, ids.shape[1] + 1)
        weights = torch.where(places <= lengths, places, 0).float()  # (batch, T)
        made: Any = model.get_decoder()(input_ids=ids.to(model.device), use_cache=False, output_hidden_states=True)
        hidden = torch.stack(made.hidden_states).float().cpu()  # (layers + 1, batch, T, D)
        means = (hidden * weights[..., None]).sum(2) / weights.sum(1)[:, None]
        for k, i in enumerate(batch):
            vectors[i] = means[:, k]
    return torch.nn.functional.normalize(torch.stack([vector for vector in vectors if vector is not None], 1), dim=-1)


def scores(one: Tensor, other: Tensor) -> list[float]:
    """The share of aligned pairs by layer; both (layers + 1, pairs, D)."""
    cosines = one @ other.transpose(1, 2)  # (layers + 1, pairs, pairs)
    own = cosines.diagonal(dim1=1, dim2=2)
    others = cosines.masked_fill(torch.eye(cosines.shape[1], dtype=torch.bool), -2.0)
    aligned = (own > others.amax(2)) & (own > others.amax(1))
    return [float(share) for share in aligned.float().mean(1)]


def alignment(
    model: PreTrainedModel, tokenizer: DocumentTokenizer, pairs: Mapping[str, Pairs], longest: int
) -> dict[str, list[float]]:
    """Language pair -> the scores after the embeddings and after each layer."""
    found = {}
    for title, of in pairs.items():
        sides = [
            sentence_vectors(model, tokenizer, list(texts), longest) for texts in zip(*of[:MOST_PAIRS], strict=True)
        ]
        found[title] = scores(*sides)
    return found


def propose(of_pairs: Mapping[str, Sequence[float]]) -> LayerRange | None:
    """The layer groups that the scores of a model propose, of their mean over language pairs.

    None where no layer aligns a quarter of the pairs, or one of the first aligns most: such scores are chance, and
    names and words that both sides have.
    """
    mean = np.mean(list(of_pairs.values()), axis=0)  # (layers + 1,)
    depth = len(mean) - 1
    if mean.max() < LEAST or mean.argmax() < EARLY * depth:
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
    found: dict[tuple[str, str], None] = {}
    for place, record in read_records(find_files(file)):
        sides = [str(record.get(field) or "") if isinstance(record, Mapping) else "" for field in (first, second)]
        if not all(side.strip() for side in sides):
            raise CorpusError(f"{place}: there is no text in the field '{second if sides[0].strip() else first}'")
        if len(sides[0]) >= FEWEST_CHARACTERS:
            found[(sides[0], sides[1])] = None
        if len(found) == MOST_PAIRS:
            break
    if len(found) < 2:
        raise UserError(f"{file}: {len(found)} pairs of {FEWEST_CHARACTERS} characters and more; give more")
    return BETWEEN.join([code_of(one), code_of(other)]), list(found)


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
        return "none: too few pairs are aligned"
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
