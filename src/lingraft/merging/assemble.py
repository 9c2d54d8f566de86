"""Plan a merge of checkpoints, then write and verify the model folder."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lingraft.checkpoints.dtypes import DTYPES
from lingraft.checkpoints.shard_writer import Shard, plan_shard, verify_shards
from lingraft.checkpoints.weights import StoredTensor
from lingraft.errors import MachineError, UserError
from lingraft.layer_groups import ROWS_ARE_TOKENS
from lingraft.merging.combine import Task, combine
from lingraft.merging.compatibility import check_fit
from lingraft.merging.formulas import Formula, Rule, new_rows
from lingraft.merging.model_files import write_companions
from lingraft.merging.source_model import SourceModel
from lingraft.merging.tensor_reader import Operand
from lingraft.merging.vocabulary_alignment import MISSING, Vocabulary, match_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Combination:
    """A planned merge: everything but the weights is known."""

    rule: Rule
    like: SourceModel
    """Gives the result its config, generation config, chat template, tensor names and shards."""
    vocabulary: Vocabulary
    dtype: str
    """The dtype of most parameters of the result."""
    dtypes: Mapping[str, str]
    """Canonical name of a tensor -> its dtype."""


def plan_combination(
    rule: Rule, like: SourceModel, tokenizer: SourceModel | None = None, dtype: str | None = None, force: bool = False
) -> Combination:
    """Check that the parents fit each other, and match their vocabularies.

    `tokenizer`: the parent that gives tokens, config and chat template, in place of `like`. `dtype`: bfloat16,
    float16 or float32; by default every tensor keeps its dtype in `like`. `force`: merge models although their
    settings differ.

    Raises:
        ModelError: the parents do not fit; says what differs.
        UserError: an unknown dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype}: allowed are {', '.join(DTYPES)}")
    parents = list(dict.fromkeys([*rule.parents, like]))
    check_fit(parents, force)
    like = tokenizer or like
    vocabulary = match_rows(parents, like, tokenizer)
    dtypes = {name: DTYPES[dtype] if dtype else like.dtype(name) for name in like.weights}
    sizes = Counter[str]()
    for name, tensor in like.weights.items():
        sizes[dtypes[name]] += tensor.num_bytes
    return Combination(rule, like, vocabulary, max(sizes, key=lambda dtype: sizes[dtype]), dtypes)


def write_combination(combination: Combination, folder: Path) -> None:
    """Write the model into an existing, empty folder.

    Raises:
        MachineError: the disk has not enough room.
        ModelError: NaN or Inf in a parent, or a result beyond the range of its type.
        OSError: the disk became full.
    """
    shards = _shards(combination, folder)
    needed, free = sum(shard.num_bytes for shard in shards), shutil.disk_usage(folder).free
    if needed > free:
        raise MachineError(
            f"the disk is full: the result needs {needed / 1e9:.2f} GB, {(needed - free) / 1e6:,.1f} MB more than "
            f"{folder.parent} has left; make room and start the same command again, or choose another --out"
        )
    names = {tensor.name: name for name, tensor in combination.like.model.weights.items()}
    placed = [tensor for shard in shards for tensor in shard.tensors]
    combine([_task(combination, names[tensor.name], tensor) for tensor in placed], shards)
    verify_shards(folder, shards)
    write_companions(folder, combination.like, combination.vocabulary, combination.dtype)


def _shards(combination: Combination, folder: Path) -> Sequence[Shard]:
    """The files of `like`, with the rows of the result."""
    files: dict[str, list[tuple[str, str, tuple[int, ...]]]] = {}
    for name, tensor in combination.like.model.weights.items():
        rows = combination.vocabulary.num_rows
        shape = (rows, *tensor.shape[1:]) if name in ROWS_ARE_TOKENS else tensor.shape
        files.setdefault(tensor.file.name, []).append((tensor.name, combination.dtypes[name], shape))
    return [plan_shard(folder / file, tensors) for file, tensors in files.items()]


def _task(combination: Combination, name: str, tensor: StoredTensor) -> Task:
    """The formulas of a tensor: one, or where vocabularies differ one for each set of parents that have a row."""
    operands = operands_of(combination, name)
    if all(operand.row_of is None for operand in operands.values()):
        return Task(tensor, [_formula(combination.rule, name, operands)])
    has = np.stack([_has_row(operand, tensor.num_rows) for operand in operands.values()])
    holders, which = np.unique(has, axis=1, return_inverse=True)
    formulas = [
        _formula(combination.rule, name, dict(compress(operands.items(), holds_row))) for holds_row in holders.T
    ]
    return Task(tensor, formulas, which.ravel().astype(np.uint8))


def operands_of(combination: Combination, name: str) -> Mapping[SourceModel, Operand]:
    """Every parent's tensor of a canonical name, with its rows matched to the rows of the result."""
    row_of = combination.vocabulary.row_of if name in ROWS_ARE_TOKENS else {}
    return {
        parent: Operand(parent.name, parent.weights[name], row_of.get(parent), parent.low_rank.get(name))
        for parent in combination.rule.parents
    }


def _has_row(operand: Operand, num_rows: int) -> NDArray[np.bool_]:
    """(rows,): whether a parent has a row of the result."""
    return np.ones(num_rows, np.bool_) if operand.row_of is None else operand.row_of != MISSING


def _formula(rule: Rule, name: str, operands: Mapping[SourceModel, Operand]) -> Formula:
    """The rule's formula. Where the rule gives none, the mean of the parents that have the rows."""
    mean = dict.fromkeys(operands, 1.0)
    formula = rule.formula(name, operands) or new_rows(name, mean, operands)
    assert formula is not None, "a row that no parent has"
    return formula
