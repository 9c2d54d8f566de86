"""Match rows of embeddings and head by token.

Checkpoints whose vocabularies differ, in size or in order, are merged row by row. The result has
the tokenizer of a parent that knows every token; an index per parent maps rows of the result to rows
of the parent, or to `MISSING`. Rows without a token are padding; they are kept.
"""

from __future__ import annotations

import filecmp
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lingraft.checkpoints.read import tokenizer_files
from lingraft.checkpoints.tokens import TokenIds, read_tokens
from lingraft.errors import ModelError
from lingraft.layer_groups import EMBEDDINGS
from lingraft.merging.source_model import SourceModel

logger = logging.getLogger(__name__)

MISSING = -1
RowIndex = NDArray[np.int64]
"""(rows of the result,): the row of a parent that holds the same token, or `MISSING`."""

_FAST = "tokenizer.json"
_LEGACY = "added_tokens.json"


@dataclass(frozen=True)
class Vocabulary:
    """The rows of the result."""

    owner: SourceModel
    """The parent that gives the tokens."""
    num_rows: int
    row_of: Mapping[SourceModel, RowIndex | None]
    """`None`: the same rows in the same order."""
    ids: Mapping[SourceModel, TokenIds]
    """Token -> id by parent; empty where all tokenizers are the same file."""

    def has_tokens_of(self, parent: SourceModel) -> bool:
        """Whether a parent's tokenizer gives every token the id that it has in the result."""
        return not self.ids or self.ids[parent] == self.ids[self.owner]


def num_rows(parent: SourceModel) -> int:
    """Rows of a parent's embeddings, padding included."""
    return parent.weights[f"{EMBEDDINGS}.weight"].num_rows


def match_rows(parents: Sequence[SourceModel], like: SourceModel, owner: SourceModel | None = None) -> Vocabulary:
    """Find every token's row in every parent.

    The result has the tokens of `owner`, by default of a parent that has all tokens: the one with most
    rows; among equals, `like`.

    Raises:
        ModelError: no parent has all tokens, or a parent has no tokenizer.
    """
    without = [parent for parent in parents if not tokenizer_files(parent.tokenizer_folder)]
    if without:
        if len({num_rows(parent) for parent in parents}) > 1:
            raise ModelError(
                f"{without[0].name} has no tokenizer, and the parents have different numbers of rows "
                f"({_counts(parents)}): rows are matched by token; put its tokenizer's files into its folder"
            )
        logger.warning("%s has no tokenizer: rows of embeddings and head are matched by position", without[0].name)
        has_one = next((parent for parent in [owner or like, *parents] if parent not in without), owner or like)
        return _matched(has_one, parents, {})
    if _same_tokenizer(parents):
        known = read_tokens(parents[0].tokenizer_folder)
        for parent in parents:
            known.check(parent.name, num_rows(parent))
        return _matched(owner or like, parents, {})
    ids = {parent: token_ids(parent) for parent in parents}
    chosen = owner or _knows_all(parents, like, ids)
    log_missing_tokens(parents, chosen, ids)
    return _matched(chosen, parents, ids)


def token_ids(parent: SourceModel) -> TokenIds:
    """Token -> id, added tokens too.

    Raises:
        ModelError: the tokenizer cannot be read, or gives text ids beyond the rows of the embeddings.
    """
    tokens = read_tokens(parent.tokenizer_folder)
    tokens.check(parent.name, num_rows(parent))
    return tokens.ids


def _same_tokenizer(parents: Sequence[SourceModel]) -> bool:
    """Whether all parents have copies of one tokenizer file."""
    first, *others = dict.fromkeys(parent.tokenizer_folder for parent in parents)
    return all(
        (first / _FAST).is_file()
        and (other / _FAST).is_file()
        and not (other / _LEGACY).is_file()
        and filecmp.cmp(first / _FAST, other / _FAST, shallow=False)
        for other in others
    )


def _knows_all(parents: Sequence[SourceModel], like: SourceModel, ids: Mapping[SourceModel, TokenIds]) -> SourceModel:
    tokens = set[str]().union(*ids.values())
    knowing = [parent for parent in [like, *parents] if len(ids[parent]) == len(tokens)]
    if knowing:
        return max(knowing, key=num_rows)
    lacking = "; ".join(
        f"{parent.name} lacks {len(lack):,}, such as {min(lack)!r}"
        for parent in parents
        if (lack := tokens - ids[parent].keys())
    )
    raise ModelError(
        f"no tokenizer of these knows all tokens: {lacking}; say with --tokenizer PARENT whose tokens to keep, "
        "the rows of the others' own are then left out"
    )


def log_missing_tokens(
    parents: Sequence[SourceModel], chosen: SourceModel, ids: Mapping[SourceModel, TokenIds]
) -> None:
    for parent in parents:
        lost = len(ids[parent].keys() - ids[chosen].keys())
        if lost:
            logger.warning("%s: %s tokens that %s does not have are left out", parent.name, f"{lost:,}", chosen.name)


def _matched(owner: SourceModel, parents: Sequence[SourceModel], ids: Mapping[SourceModel, TokenIds]) -> Vocabulary:
    """Index rows: the same rows where the tokens are the same, else by token. The largest padding is kept."""
    same = [parent for parent in parents if not ids or ids[parent] == ids[owner]]
    rows = max(num_rows(parent) for parent in same)
    row_of: dict[SourceModel, RowIndex | None] = {}
    for parent in parents:
        if parent not in same:
            row_of[parent] = _by_token(ids[owner], ids[parent], rows, num_rows(parent))
        elif num_rows(parent) < rows:
            row_of[parent] = np.concatenate(
                [np.arange(num_rows(parent)), np.full(rows - num_rows(parent), MISSING)], dtype=np.int64
            )
        else:
            row_of[parent] = None
    return Vocabulary(owner, rows, row_of, ids)


def _by_token(of_result: TokenIds, of_parent: TokenIds, rows: int, parent_rows: int) -> RowIndex:
    """Index rows by token. Special tokens may have no row, in the result and in the parent."""
    index = np.full(rows, MISSING, dtype=np.int64)
    for token, row in of_result.items():
        if row < rows and (own := of_parent.get(token, MISSING)) < parent_rows:
            index[row] = own
    return index


def _counts(parents: Sequence[SourceModel]) -> str:
    return ", ".join(f"{parent.name} {num_rows(parent):,}" for parent in parents)
