"""Merge adapters on one base into one low-rank adapter, in place of a whole model.

    sum_i c_i s_i up_i down_i = [c_1 s_1 up_1, c_2 s_2 up_2, ...] [down_1; down_2; ...]

The rank is the sum of the ranks. Modules that the adapters saved whole are merged and saved whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lingraft.cache import write_json
from lingraft.checkpoints.adapters import CONFIG, FILE
from lingraft.checkpoints.beside import copy_tokenizer
from lingraft.checkpoints.config import read_object
from lingraft.checkpoints.dtypes import Floats
from lingraft.checkpoints.names import public_name
from lingraft.checkpoints.shard_writer import plan_shard
from lingraft.errors import UserError
from lingraft.layer_groups import HEAD, ROWS_ARE_TOKENS, plain_name
from lingraft.merging.assemble import Combination, operands_of
from lingraft.merging.combine import Task, combine
from lingraft.merging.formulas import Each, Formula, Linear
from lingraft.merging.source_model import SourceModel
from lingraft.merging.tensor_reader import Desk, Operand, Rows, open_files
from lingraft.merging.vocabulary_alignment import num_rows

_TIED_HEAD = f"base_model.model.{HEAD}.weight"


@dataclass(frozen=True)
class Given:
    """A tensor that is in memory already."""

    array: Floats
    operands: Sequence[Operand] = ()
    copied: Operand | None = None

    def prepare(self, each: Each) -> None:
        """Does nothing: the tensor is known."""

    def __call__(self, rows: Rows, desk: Desk) -> Floats:
        return self.array[rows]


def write_adapter(combination: Combination, folder: Path) -> None:
    """Write the PEFT adapter that turns its base into the merged model, into an existing, empty folder.

    Raises:
        UserError: the merge is not a sum of adapters on one base.
    """
    adapters, base = _adapters_and_base(combination)
    formulas: dict[str, Formula] = {}
    ranks: dict[str, int] = {}
    for name, tensor in base.weights.items():
        formula = combination.rule.formula(name, operands_of(combination, name))
        assert isinstance(formula, Linear)
        if [(operand.tensor, coefficient) for operand, coefficient in formula.terms] != [(tensor, 1.0)]:
            formulas |= _saved(name, formula, adapters, base)
        elif formula.adapters:
            up, down = _stacked(formula)
            first = formula.adapters[0][0].low_rank
            assert first is not None
            formulas |= {first.down.name: Given(down, formula.operands), first.up.name: Given(up, formula.operands)}
            ranks[plain_name(first.down.name).removesuffix(".weight")] = len(down)
    if not ranks:
        raise UserError("--adapter: the sum has no low-rank part; leave --adapter out")
    shard = plan_shard(folder / FILE, [(name, "F32", _shape(formula)) for name, formula in formulas.items()])
    combine([Task(tensor, [formulas[tensor.name]]) for tensor in shard.tensors], [shard])
    write_json(folder / CONFIG, _config(adapters, base, ranks))
    copy_tokenizer(combination.like.tokenizer_folder, folder)


def _adapters_and_base(combination: Combination) -> tuple[Sequence[SourceModel], SourceModel]:
    parents = combination.rule.parents
    adapters = [parent for parent in parents if parent.base]
    bases = {parent.model for parent in parents}
    if len(bases) > 1 or not adapters:
        base_of_first = adapters[0].base if adapters else None
        others = [parent.name for parent in parents if not parent.base and parent is not base_of_first]
        found = f"{', '.join(others)} is no adapter" if others else "they are on different bases"
        raise UserError(
            f"--adapter: a sum is an adapter only where all models are adapters on one base, and {found}; "
            "leave --adapter out"
        )
    base = bases.pop()
    if combination.vocabulary.num_rows != num_rows(base):
        raise UserError("--adapter: the adapters' vocabulary is another than their base's; leave --adapter out")
    return adapters, base


def _saved(name: str, formula: Linear, adapters: Sequence[SourceModel], base: SourceModel) -> Mapping[str, Formula]:
    """The formulas of a module that is saved whole, by the names that peft gives it."""
    stored = next((tensor for parent in adapters if (tensor := parent.weights[name]) != base.weights[name]), None)
    if stored is None or name not in ROWS_ARE_TOKENS:
        raise UserError(f"--adapter: '{base.weights[name].name}' is changed by more than low rank; leave --adapter out")
    return {stored.name: formula, **({_TIED_HEAD: formula} if base.is_tied else {})}


def _stacked(formula: Linear) -> tuple[Floats, Floats]:
    """Up (out, sum of ranks), with coefficients and scales in it, and down (sum of ranks, in)."""
    factors = [(operand.low_rank, coefficient) for operand, coefficient in formula.adapters]
    pairs = [
        (factor.up, factor.down, factor.scale * coefficient) for factor, coefficient in factors if factor is not None
    ]
    with open_files(tensor.file for up, down, _ in pairs for tensor in (up, down)) as files:
        ups = [np.float32(scale) * files.floats(up, np.arange(up.num_rows)) for up, _, scale in pairs]
        downs = [files.floats(down, np.arange(down.num_rows)) for _, down, _ in pairs]
    return np.concatenate(ups, axis=1), np.concatenate(downs)


def _shape(formula: Formula) -> tuple[int, ...]:
    return formula.array.shape if isinstance(formula, Given) else formula.operands[0].tensor.shape


def _config(adapters: Sequence[SourceModel], base: SourceModel, ranks: Mapping[str, int]) -> dict[str, object]:
    """Peft's config: alpha is the rank everywhere, since the scales are in the factors."""
    configs = [read_object(parent.folder / CONFIG) for parent in adapters]
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {module: rank for module, rank in ranks.items() if rank != usual}
    return {
        **configs[0],
        "base_model_name_or_path": public_name(base.name),
        "target_modules": list(ranks),
        "exclude_modules": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "r": usual,
        "lora_alpha": usual,
        "use_rslora": False,
        "rank_pattern": others,
        "alpha_pattern": others,
        "modules_to_save": sorted({module for config in configs for module in config.get("modules_to_save") or ()})
        or None,
        "ensure_weight_tying": any(config.get("ensure_weight_tying") for config in configs),
    }
