"""Merge checkpoints after training: every method as one sum, in one pass over the files.

`out = sum_i c_i(group) theta_i`; only TIES and DARE are not linear. Models are given by folder or
hub name. A PEFT adapter counts as its base with the adapter folded in. Vocabularies are matched by
token. No module here imports torch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lingraft.checkpoints.dtypes import LARGEST
from lingraft.checkpoints.names import on_hub
from lingraft.checkpoints.read import model_files
from lingraft.disk import new_folder, remove_leftovers
from lingraft.errors import UserError
from lingraft.input_files import Sources
from lingraft.layer_groups import LayerRange, num_layers
from lingraft.merging.assemble import plan_combination, write_combination
from lingraft.merging.dare import Dare
from lingraft.merging.expression import (
    Checkpoint,
    Mean,
    Scale,
    instructed,
    interpolated,
    language_vectors,
    reverted,
    scales_by_group,
)
from lingraft.merging.formulas import Rule, Sum
from lingraft.merging.low_rank import write_adapter
from lingraft.merging.manifest import MergeRecipe, check_holds_only, merge_card, was_made_from, write_manifest
from lingraft.merging.source_model import Origin, SourceModel, check_origin, open_source_model
from lingraft.merging.ties import Ties
from lingraft.output_paths import folder_target

__all__ = ["dare", "instruct", "interpolate", "revert", "soup", "ties", "vectors"]

logger = logging.getLogger(__name__)

Name = str | Path
Weighted = Mapping[Name, float] | Mapping[str, float] | Mapping[Path, float]


def vectors(
    base: Name,
    adapted: Weighted,
    out: Name,
    *,
    tokenizer: Name | None = None,
    dtype: str | None = None,
    adapter: bool = False,
    force: bool = False,
) -> Path:
    """Base + sum_i scale_i (adapted_i - base): add scaled language vectors to a base (arXiv 2509.11414 eq. 1 to 3).

    One vector at scale 1 is the model itself; two at 0.5 are LayRA-merge; with the model of the
    first stage as `base` it is LayRA-series.

    Arguments:
        base: the model that is subtracted from each adapted model.
        adapted: model or adapter -> scale.
        out: the folder to write; new, empty, or an earlier merge, which is replaced.
        tokenizer: the parent that gives tokens, config and chat template, in place of `base`.
        dtype: bfloat16, float16 or float32; by default each tensor keeps the base's dtype.
        adapter: write a PEFT adapter in place of a model, where all are adapters on one base.
        force: accept a model that names another base, or that has other settings (rotary frequencies, epsilons,
            windows).

    Returns the absolute path of `out`, without links.

    Raises:
        ModelError: models that are missing, damaged, or do not fit each other.
        UserError: invalid settings.
        OutputError: `out` holds something else.
        MachineError, OSError: the disk is full.
    """
    start, models = _vectors(base, adapted, force)
    sums = [(Checkpoint(model), scale) for model, scale in models.items()]
    recipe = MergeRecipe("vectors", "base + sum_i weight_i (adapted_i - base)", _roles(start, models), models)
    rule = Sum(language_vectors(Checkpoint(start), sums), [start, *models])
    return _merge(recipe, rule, start, start, out, tokenizer, dtype, adapter, force)


def soup(
    models: Weighted | Sequence[Name],
    out: Name,
    *,
    tokenizer: Name | None = None,
    dtype: str | None = None,
    adapter: bool = False,
    force: bool = False,
) -> Path:
    """sum_i w_i theta_i / sum_i w_i: the uniform or weighted average of models (arXiv 2606.00284 §2.2).

    `models` is a list, or maps models to weights above 0. The first model gives config and tokenizer;
    all else as in `vectors`.
    """
    weights = models if isinstance(models, Mapping) else dict.fromkeys(models, 1.0)
    if len(weights) < len(models):
        raise UserError("a model is given twice; give it once, with its weight")
    opened: dict[SourceModel, float] = {}
    for name, weight in _numbers(weights, positive=True).items():
        base = next((parent.base for parent in opened if parent.base), None)
        opened[open_source_model(name, base, force)] = weight  # adapters on one base share it
    recipe = MergeRecipe("soup", "sum_i weight_i model_i / sum_i weight_i", dict.fromkeys(opened, "model"), opened)
    rule = Sum(Mean(tuple((Checkpoint(model), weight) for model, weight in opened.items())), list(opened))
    origins = {model.origin for model in opened}
    origin = origins.pop() if len(origins) == 1 else None
    return _merge(recipe, rule, next(iter(opened)), origin, out, tokenizer, dtype, adapter, force)


def ties(
    base: Name,
    adapted: Weighted,
    out: Name,
    *,
    density: float = 0.5,
    scale: float = 1.0,
    tokenizer: Name | None = None,
    dtype: str | None = None,
    force: bool = False,
) -> Path:
    """TIES: trim task vectors to the share `density` of largest elements, elect signs, average (arXiv 2306.01708 §3).

    The result is base + scale * (weighted mean of the vectors that agree in sign); `adapted` holds
    weights above 0. All else as in `vectors`.
    """
    start, models = _vectors(base, adapted, force, positive=True)
    settings = {"density": _density(density), "scale": _number("--scale ", scale)}
    recipe = MergeRecipe("ties", "base + scale TIES_i(adapted_i - base)", _roles(start, models), models, settings)
    return _merge(recipe, Ties(start, models, density, scale), start, start, out, tokenizer, dtype, force=force)


def dare(
    base: Name,
    adapted: Weighted,
    out: Name,
    *,
    density: float = 0.5,
    scale: float = 1.0,
    seed: int = 0,
    tokenizer: Name | None = None,
    dtype: str | None = None,
    force: bool = False,
) -> Path:
    """DARE: keep each element of a task vector with probability `density`, rescaled, and add (arXiv 2311.03099 §3.2).

    The draw depends on `seed`, the vector, the tensor's name and the element's position. All else as in
    `vectors`.
    """
    start, models = _vectors(base, adapted, force)
    settings = {"density": _density(density), "scale": _number("--scale ", scale), "seed": seed}
    formula = "base + scale sum_i weight_i DARE(adapted_i - base)"
    recipe = MergeRecipe("dare", formula, _roles(start, models), models, settings)
    return _merge(recipe, Dare(start, models, density, scale, seed), start, start, out, tokenizer, dtype, force=force)


def revert(
    model: Name,
    base: Name,
    out: Name,
    *,
    first: int,
    last: int,
    tokenizer: Name | None = None,
    dtype: str | None = None,
    adapter: bool = False,
    force: bool = False,
) -> Path:
    """Set the layers between the `first` and the `last` back to the base (arXiv 2606.00284 §2.2).

    All else, embeddings, head and final norm too, stays as in `model`, which gives config and
    tokenizer. All else as in `vectors`.
    """
    start, adapted = _adapted(base, model, force)
    layers = LayerRange(first, last, num_layers(adapted.weights))
    recipe = MergeRecipe(
        "revert",
        "middle layers of base, all else of adapted",
        {adapted: "adapted", start: "base"},
        settings={"first": first, "last": last},
    )
    rule = Sum(reverted(Checkpoint(adapted), Checkpoint(start), layers), [adapted, start])
    return _merge(recipe, rule, adapted, start, out, tokenizer, dtype, adapter, force)


def interpolate(
    model: Name,
    base: Name,
    out: Name,
    *,
    first: int,
    last: int,
    scale: Mapping[str, float],
    tokenizer: Name | None = None,
    dtype: str | None = None,
    adapter: bool = False,
    force: bool = False,
) -> Path:
    """base_G + scale_G (model_G - base_G) for the layer groups G that `scale` names (arXiv 2606.00284 §4.1).

    Groups are first, middle, last, embeddings, final_norm, head; the others stay as in `model`,
    which gives config and tokenizer. All else as in `vectors`.
    """
    start, adapted = _adapted(base, model, force)
    layers = LayerRange(first, last, num_layers(adapted.weights))
    by_group = scales_by_group(scale, layers, adapted.weights)
    recipe = MergeRecipe(
        "interpolate",
        "base + scale_G (adapted - base) in each layer group G",
        {adapted: "adapted", start: "base"},
        settings={"first": first, "last": last, "scale": {str(group): factor for group, factor in by_group.items()}},
    )
    expression = interpolated(Checkpoint(adapted), Checkpoint(start), Scale(1.0, by_group, layers))
    return _merge(recipe, Sum(expression, [adapted, start]), adapted, start, out, tokenizer, dtype, adapter, force)


def instruct(
    model: Name,
    base: Name,
    instruct: Name,
    out: Name,
    *,
    scale: float,
    tokenizer: Name | None = None,
    dtype: str | None = None,
    force: bool = False,
) -> Path:
    """Instruct + scale (model - base): add a language vector to an instruct model (arXiv 2509.11414 eq. 4).

    `instruct` gives config, tokenizer, generation config and chat template. All else as in `vectors`.
    """
    start, adapted = _adapted(base, model, force)
    chat = open_source_model(instruct, start, force)
    recipe = MergeRecipe(
        "instruct",
        "instruct + scale (adapted - base)",
        {chat: "instruct", adapted: "adapted", start: "base"},
        settings={"scale": _number("--scale ", scale)},
    )
    expression = instructed(Checkpoint(chat), Checkpoint(adapted), Checkpoint(start), scale)
    return _merge(recipe, Sum(expression, [chat, adapted, start]), chat, chat, out, tokenizer, dtype, force=force)


def _merge(
    recipe: MergeRecipe,
    rule: Rule,
    like: SourceModel,
    origin: SourceModel | Origin | None,
    out: Name,
    tokenizer: Name | None,
    dtype: str | None,
    adapter: bool = False,
    force: bool = False,
) -> Path:
    """Check, plan and write; `origin` is the base that `lingraft.json` records."""
    parents = list(rule.parents)
    sources = Sources(
        lambda: {parent.name: {*model_files(parent.folder), *model_files(parent.model_folder)} for parent in parents}
    )
    out = folder_target(out, [folder for parent in parents for folder in (parent.folder, parent.model_folder)])
    check_holds_only(out, "merge")
    if adapter and (tokenizer or dtype or not isinstance(rule, Sum)):
        raise UserError("--adapter: it is float32, and has no tokenizer; leave --tokenizer and --dtype out")
    combination = plan_combination(rule, like, _named(tokenizer, parents) if tokenizer else None, dtype, force)
    record = recipe.record(combination, origin) | ({"adapter": True} if adapter else {})
    if was_made_from(out, record):
        remove_leftovers(out)
        logger.info("%s: finished before, kept", out)
        return out
    started = time.perf_counter()
    with new_folder(out, "another merge is writing this folder; wait for it or choose another --out") as temporary:
        (write_adapter if adapter else write_combination)(combination, temporary)
        write_manifest(
            temporary, record, merge_card(record, [parent.name for parent in recipe.roles if on_hub(parent.name)])
        )
        sources.check()
    logger.info("%s: %s of %d models in %.1f s", out, recipe.method, len(parents), time.perf_counter() - started)
    return out


def _named(name: Name, parents: Sequence[SourceModel]) -> SourceModel:
    for parent in parents:
        if str(name) == parent.name or Path(name).resolve() == parent.folder.resolve():
            return parent
    raise UserError(f"--tokenizer {name}: it is none of the models ({', '.join(parent.name for parent in parents)})")


def _vectors(
    base: Name, adapted: Weighted, force: bool, positive: bool = False
) -> tuple[SourceModel, dict[SourceModel, float]]:
    weights = _numbers(adapted, positive)
    start = open_source_model(base)
    models = {open_source_model(name, start, force): weight for name, weight in weights.items()}
    for model in models:
        check_origin(model, start, force)
    return start, models


def _adapted(base: Name, model: Name, force: bool) -> tuple[SourceModel, SourceModel]:
    start, models = _vectors(base, {model: 1.0}, force)
    return start, next(iter(models))


def _roles(base: SourceModel, adapted: Mapping[SourceModel, float]) -> dict[SourceModel, str]:
    return {base: "base", **dict.fromkeys(adapted, "adapted")}


def _numbers(weights: Weighted, positive: bool = False) -> dict[Name, float]:
    if not weights:
        raise UserError("no model is given; give at least one")
    numbers = {name: _number(f"{name}:", weight) for name, weight in weights.items()}
    folders: dict[Path, Name] = {}
    for name, number in numbers.items():
        if positive and number <= 0:
            raise UserError(f"{name}:{number:g}: a weight must be above 0 here")
        twin = folders.setdefault(Path(name).resolve(), name)
        if twin != name:
            raise UserError(f"{twin} and {name} are one folder; give it once, with the sum of the weights")
    return numbers


def _number(what: str, value: float) -> float:
    if not abs(value) <= LARGEST["F32"]:
        raise UserError(f"{what}{value}: this must be a finite number, as in 0.5")
    return float(value)


def _density(density: float) -> float:
    if not 0 < density <= 1:
        raise UserError(f"--density {density}: the share of elements to keep must be above 0 and at most 1")
    return float(density)
