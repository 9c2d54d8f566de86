"""Alignment: whether sentences of the same meaning lie closest, in two languages (MEXA, arXiv 2410.05873).

A sentence's vector at a layer is the mean of its tokens' hidden states, weighted by position, since a causal model
knows more at the end: v = sum_t t h_t / sum_t t. A pair (a_i, b_i) is aligned where cos(a_i, b_i) is the largest of all
cos(a_i, b_j) and of all cos(a_j, b_i): of n pairs, by chance one in 2n - 1. It needs sentences that say the same, and
no questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lingraft.cache import fingerprint
from lingraft.corpus.read import read_records
from lingraft.errors import CorpusError
from lingraft.evaluation import ALIGNMENT
from lingraft.evaluation.bits_per_byte import TOKENS_PER_BATCH, padded
from lingraft.evaluation.suite import Roles
from lingraft.evaluation.task_scores import Ability, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lingraft.corpus.tokenize import DocumentTokenizer

Pairs = Sequence[tuple[str, str]]

FEWEST_CHARACTERS = 30
"""Of one side; shorter pairs are names and headings, which say little of a language."""
LONGEST = 256
"""Tokens of a sentence at most."""
MOST_PAIRS = 100
"""Of each language pair, as in the paper."""


@dataclass(frozen=True)
class SentencePairs:
    """Sentences that say the same in two languages."""

    languages: tuple[str, str]
    sentences: Pairs

    @property
    def fingerprint(self) -> str:
        return fingerprint([list(self.languages), list(self.sentences)])

    def beside(self, code: str) -> str:
        """The other language."""
        return next(other for other in self.languages if other != code)


def read_pairs(files: Sequence[Path], fields: tuple[str, str]) -> list[tuple[str, str]]:
    """The first pairs of sentences in records, by their fields.

    Raises:
        CorpusError: a record without one of the fields, or fewer than two pairs.
    """
    found: dict[tuple[str, str], None] = {}
    for place, record in read_records(files):
        sides = [str(record.get(field) or "") if isinstance(record, Mapping) else "" for field in fields]
        if empty := [field for field, side in zip(fields, sides, strict=True) if not side.strip()]:
            has = f"; the record has {', '.join(map(str, record))}" if isinstance(record, Mapping) else ""
            raise CorpusError(f"{place}: there is no text in the field '{empty[0]}'{has}")
        if max(map(len, sides)) >= FEWEST_CHARACTERS:
            found[(sides[0], sides[1])] = None
        if len(found) == MOST_PAIRS:
            break
    if len(found) < 2:
        names = ", ".join(map(str, files))
        raise CorpusError(f"{names}: {len(found)} pairs of {FEWEST_CHARACTERS} characters and more; give more")
    return list(found)


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
        shares = (weights / weights.sum(1, keepdim=True)).to(model.device)
        means = torch.stack([torch.einsum("bt,btd->bd", shares, state.float()) for state in made.hidden_states]).cpu()
        for k, i in enumerate(batch):
            vectors[i] = means[:, k]
    return torch.nn.functional.normalize(torch.stack([vector for vector in vectors if vector is not None], 1), dim=-1)


def aligned(one: Tensor, other: Tensor) -> Tensor:
    """Which pairs are aligned at each layer, (layers + 1, pairs); both (layers + 1, pairs, D)."""
    cosines = one @ other.transpose(1, 2)  # (layers + 1, pairs, pairs)
    own = cosines.diagonal(dim1=1, dim2=2)
    others = cosines.masked_fill(torch.eye(cosines.shape[1], dtype=torch.bool), -2.0)
    return (own > others.amax(2)) & (own > others.amax(1))


def aligned_pairs(model: PreTrainedModel, tokenizer: DocumentTokenizer, pairs: Pairs, longest: int) -> Tensor:
    """Which pairs are aligned after the embeddings and after each layer, (layers + 1, pairs)."""
    one, other = (sentence_vectors(model, tokenizer, texts, longest) for texts in map(list, zip(*pairs, strict=True)))
    return aligned(one, other)


@dataclass(frozen=True)
class Alignment(Ability):
    """Sentences of a language with the same in another one; what a pair is worth is the share of layers, without the
    embeddings, at which it is aligned.
    """

    sequences: Mapping[str, SentencePairs]

    name = f"tasks.{ALIGNMENT}"
    title = ALIGNMENT
    metrics = ("acc",)
    num_watched = 32  # among fewer, more are aligned

    @property
    def fingerprint(self) -> dict[str, str]:
        return {code: pairs.fingerprint for code, pairs in self.sequences.items()}

    @property
    def watched(self) -> Alignment:
        few = {code: replace(of, sentences=of.sentences[: self.num_watched]) for code, of in self.sequences.items()}
        return replace(self, sequences=few)

    def scores(self, model: PreTrainedModel, tokenizer: DocumentTokenizer, max_length: int) -> dict[str, Scores]:
        measured = {}
        for code, pairs in self.sequences.items():
            by_layer = aligned_pairs(model, tokenizer, pairs.sentences, min(LONGEST, max_length))[1:]
            chance = 1 / (2 * len(pairs.sentences) - 1)
            measured[code] = Scores({"acc": by_layer.double().mean(0).numpy()}, chance=chance)
        return measured

    def compare(self, after: Mapping[str, Scores], before: Mapping[str, Scores] | None, roles: Roles) -> dict[str, Any]:
        compared = super().compare(after, before, roles)
        for code, language in compared["tasks"][ALIGNMENT].languages.items():
            language.aligned_with = self.sequences[code].beside(code)
        return compared
