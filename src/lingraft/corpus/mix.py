"""Draw the documents that train, by seed, from budgets and shares in tokens.

A component without a share gives up to its budget. A component with one is replay: its share is
of *all* tokens, so N tokens without a share, and shares that add up to s, make N / (1 - s) tokens
(arXiv 2410.02744 Tables 1, 2: p = 0.01, 0.1, 0.5).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lingraft.corpus.indices import Indices
from lingraft.errors import CorpusError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MixComponent:
    """A corpus entry as the mix sees it: its place in the recipe, the sizes of its documents, and how much to draw."""

    place: str  # corpus.0
    language: str
    num_tokens: Indices  # (documents,), of those that may train
    budget: int | None = None
    share: float | None = None
    max_epochs: int = 1  # how often a document may be seen


@dataclass(frozen=True)
class Draw:
    """Documents drawn from one component: positions in `num_tokens`, and the tokens taken of each."""

    documents: Indices  # (drawn,)
    tokens: Indices  # (drawn,), the last one may be cut

    @property
    def total(self) -> int:
        return int(self.tokens.sum())


def mix(sources: Sequence[MixComponent], seed: int, elsewhere: float = 0.0) -> list[Draw]:
    """Draw from every component; the same components and seed draw the same documents.

    `elsewhere`: the share of all tokens that is not drawn here, such as self-generated text.

    Raises:
        CorpusError: a component has no document, or a share asks for more tokens than it has.
    """
    taken: list[int] = []
    for source in sources:
        available = int(source.num_tokens.sum())
        if available == 0:
            raise CorpusError(
                f"{source.place} ({source.language}): no document is left to train on; "
                "all of its text is measured or held out, or shares passages with such text; give more"
            )
        limit = available * source.max_epochs
        taken.append(0 if source.share else min(source.budget or limit, limit))
        if source.budget and source.budget > limit:
            logger.warning(
                "%s (%s): a budget of %s tokens, but the source has %s; all of it trains (max_epochs: more passes)",
                *(source.place, source.language, f"{source.budget:,}", f"{limit:,}"),
            )
    total = sum(taken) / (1 - elsewhere - sum(s.share or 0 for s in sources))
    draws = []
    for position, (source, tokens) in enumerate(zip(sources, taken, strict=True)):
        if source.share:
            tokens = round(source.share * total)
            _check_share(source, tokens, total)
        draws.append(_draw(source, tokens, np.random.default_rng([seed, position])))
    return draws


def _check_share(source: MixComponent, tokens: int, total: float) -> None:
    available = int(source.num_tokens.sum())
    if tokens > available * source.max_epochs:
        raise CorpusError(
            f"{source.place} ({source.language}): a share of {source.share} of {total:,.0f} tokens is "
            f"{tokens:,}, but the source has {available:,}; give more text, a smaller share, "
            f"or 'max_epochs: {-(-tokens // available)}' to see its documents more than once"
        )


def _draw(source: MixComponent, tokens: int, random: np.random.Generator) -> Draw:
    """Passes over all documents, each in a new order; the last document is cut so that `tokens` is met exactly."""
    available = int(source.num_tokens.sum())
    passes = max(1, -(-tokens // available))
    order = np.concatenate([random.permutation(len(source.num_tokens)) for _ in range(passes)])
    lengths = source.num_tokens[order].astype(np.int64)
    ends = np.cumsum(lengths)
    count = int(np.searchsorted(ends, tokens)) + 1 if tokens else 0
    order, lengths = order[:count].astype(np.int64), lengths[:count].copy()
    if count and ends[count - 1] > tokens:
        lengths[-1] -= ends[count - 1] - tokens
    return Draw(order, lengths)


def hold_out(digests: Indices, num_tokens: Indices, share: float, max_tokens: int, seed: int) -> Indices:
    """The digests of held-out documents, of all documents of one language.

    Documents are taken in an order that depends on their text and the seed, up to `share` of all
    tokens and `max_tokens`; at least one is taken. Equal texts have one digest, so they go together.

    Raises:
        CorpusError: there are fewer than two different documents.
    """
    order, tokens = drawn_order(digests, num_tokens, seed)
    if len(order) < 2:
        raise CorpusError(
            f"{len(digests)} document(s), {len(order)} different: too few to hold one out; give more text"
        )
    count = int(np.searchsorted(np.cumsum(tokens), most_held_out(tokens, share, max_tokens), side="right"))
    return order[: min(max(count, 1), len(order) - 1)]


def drawn_order(digests: Indices, num_tokens: Indices, seed: int) -> tuple[Indices, Indices]:
    """Unique digests in the order in which documents are held out, and the tokens of all documents with each digest."""
    unique, inverse = np.unique(digests, return_inverse=True)
    order = np.random.default_rng([seed, 0x5EED]).permutation(len(unique))
    return unique[order], np.bincount(inverse, weights=num_tokens, minlength=len(unique))[order].astype(np.int64)


def most_held_out(num_tokens: Indices, share: float, max_tokens: int) -> float:
    """The largest number of tokens that may be held out. `num_tokens`: (documents,)."""
    return min(share * float(num_tokens.sum()), max_tokens)
