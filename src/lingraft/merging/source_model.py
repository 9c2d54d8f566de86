"""A checkpoint that goes into a combination: a model by folder or hub name, or a PEFT adapter on its base."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from lingraft.architectures import ARCHITECTURES
from lingraft.cache import read_json
from lingraft.checkpoints.adapters import Adapter, LowRank, adapter_fingerprint, is_adapter, read_adapter
from lingraft.checkpoints.config import read_config_file, text_part
from lingraft.checkpoints.layout import check_layout
from lingraft.checkpoints.read import check_is_model, find_folder, model_fingerprint, tokenizer_files
from lingraft.checkpoints.settings import Settings
from lingraft.checkpoints.weights import StoredTensor, Weights, find_weights
from lingraft.errors import ModelError
from lingraft.layer_groups import EMBEDDINGS, HEAD, canonical_name

RECORD = "lingraft.json"
"""Inside a model's folder: what it was made from."""

_EMBEDDINGS, _HEAD = f"{EMBEDDINGS}.weight", f"{HEAD}.weight"
_COMPARED_BYTES = 2**22


@dataclass(frozen=True)
class Origin:
    """The base that a model says it was made from."""

    name: str
    fingerprint: str


@dataclass(frozen=True, eq=False)
class SourceModel:
    """A checkpoint, opened but not read. An adapter is the tensors of its base, with its own in their place."""

    name: str
    """As it was given."""
    folder: Path
    config: dict[str, Any]
    weights: Weights
    """By canonical name; the head of tied embeddings is not among them."""
    low_rank: dict[str, LowRank]
    """What an adapter adds to some of them."""
    base: SourceModel | None = None
    """Of an adapter."""

    @property
    def model(self) -> SourceModel:
        """The whole model that gives names, files and number types: itself, or an adapter's base."""
        return self.base or self

    @property
    def model_folder(self) -> Path:
        """Where its config lies; an adapter's is its base's."""
        return self.model.folder

    @property
    def tokenizer_folder(self) -> Path:
        """Where its tokenizer lies: its own folder, or that of an adapter's base."""
        return self.folder if tokenizer_files(self.folder) else self.model_folder

    @cached_property
    def settings(self) -> Settings:
        """What its config says of what it computes."""
        return Settings(self.model_folder, self.config)

    @cached_property
    def fingerprint(self) -> str:
        """Stands for the weights, the config and the tokenizer."""
        return adapter_fingerprint(self.folder, self.base.fingerprint) if self.base else model_fingerprint(self.folder)

    @cached_property
    def origin(self) -> Origin | None:
        """The base that it was made from, where it says so."""
        if self.base:
            return Origin(self.base.name, self.base.fingerprint)
        return _recorded_base(self.folder, "base")

    @property
    def is_tied(self) -> bool:
        """Whether the head is the embeddings."""
        return _HEAD not in self.weights

    def dtype(self, name: str) -> str:
        """The number dtype of a tensor; what an adapter saved has that of its base."""
        return self.model.weights[name].dtype


def open_source_model(name: str | Path, base: SourceModel | None = None, force: bool = False) -> SourceModel:
    """A checkpoint by folder or hub name. An adapter's base is the one that it names.

    `base` is the base of the combination: an adapter whose base cannot be found is taken to be on
    it where `force` says so.

    Raises:
        ModelError: nothing there, weights that are missing, cut short or pickled, an architecture or
            an adapter that is not supported.
    """
    folder = find_folder(str(name))
    if is_adapter(folder):
        return _on_its_base(str(name), folder, read_adapter(folder), base, force)
    check_is_model(str(name), folder)
    config = read_config_file(folder)
    if config["model_type"] not in ARCHITECTURES:
        raise ModelError(f"{folder}: a '{config['model_type']}' is what lingraft exports; it cannot be combined")
    if config.get("quantization_config"):
        raise ModelError(f"{folder}: quantized weights cannot be combined; give the model in bf16 or float32")
    weights = {canonical_name(of): tensor for of, tensor in find_weights(folder).items()}
    check_layout(folder, config, weights)
    return SourceModel(str(name), folder, config, _without_tied_head(weights, config, folder), {})


def _tied(config: dict[str, Any]) -> bool | None:
    """Whether the head is the embeddings, where a config says so."""
    tied: bool | None = config.get("tie_word_embeddings", text_part(config).get("tie_word_embeddings"))
    return tied


def _on_its_base(name: str, folder: Path, adapter: Adapter, base: SourceModel | None, force: bool) -> SourceModel:
    own = _base_of(folder, adapter, base, force)
    if own.is_tied:
        _check_tied(folder, adapter, own)
    unknown = [of for of in adapter.low_rank if of not in own.weights]
    unknown += [of for of in adapter.saved if of not in own.weights and of != _HEAD]
    if unknown:
        raise ModelError(f"{folder}: the adapter changes '{unknown[0]}', which its base {own.name} does not have")
    for of, factors in adapter.low_rank.items():
        if factors.shape != own.weights[of].shape:
            raise ModelError(
                f"{folder}: the adapter's factors of '{of}' make {list(factors.shape)}, its base {own.name} has "
                f"{list(own.weights[of].shape)}; they do not belong together"
            )
    weights = {**own.weights, **adapter.saved}
    if own.is_tied:
        weights = _without_tied_head(weights, {**own.config, "tie_word_embeddings": True}, folder)
    return SourceModel(name, folder, own.config, weights, adapter.low_rank, own)


def _check_tied(folder: Path, adapter: Adapter, base: SourceModel) -> None:
    """Where the head is the embeddings, what changes one must say that it changes both."""
    if _HEAD in adapter.low_rank:
        raise ModelError(
            f"{folder}: the adapter is of the head of {base.name}, which is its embeddings: they would come apart; "
            "set tie_word_embeddings to false and save the model with a head of its own, then merge with peft"
        )
    if _EMBEDDINGS in adapter.saved and _HEAD not in adapter.saved and not adapter.ties:
        raise ModelError(
            f"{folder}: the adapter saved the embeddings of {base.name} without the head, which they are too: peft "
            "runs it with the old head; save both (modules_to_save), or with ensure_weight_tying"
        )


def _base_of(folder: Path, adapter: Adapter, base: SourceModel | None, force: bool) -> SourceModel:
    """The base of the combination if the adapter is on it, else the one that the adapter, or its run, names."""
    said = _recorded_base(folder, "trained_from", "base")  # of an adapter the model under it
    if base and (said.fingerprint == base.fingerprint if said else adapter.base in _names_of(base)):
        return base
    try:
        name = _base_of_run(folder) or adapter.base
        if is_adapter(find_folder(name)):
            raise ModelError(f"'{name}' is an adapter itself: merge it first")
        own = open_source_model(name)
    except ModelError as error:
        if base and force:
            return base
        way_out = "give --force to take --base for it" if base else "correct base_model_name_or_path"
        raise ModelError(f"{folder}: the base that this adapter names cannot be had ({error}); {way_out}") from None
    if said and said.fingerprint != own.fingerprint and not force:
        raise ModelError(
            f"{folder}: the adapter was trained on a {said.name} of fingerprint {said.fingerprint}, and {own.name} is "
            f"another ({own.fingerprint}); give the base that it was trained on, or --force"
        )
    return base if base and base.fingerprint == own.fingerprint else own


def _names_of(base: SourceModel) -> tuple[str, ...]:
    return base.name, str(base.folder), str(base.folder.resolve())


def _recorded_base(folder: Path, *keys: str) -> Origin | None:
    """The model that one which lingraft made says it was made from, under the first of these keys that there is."""
    path = folder / RECORD
    try:
        record = read_json(path) if path.is_file() else {}
        base = next(record[key] for key in keys if key in record)
        name, mark = base["name"], base["fingerprint"]
    except (ValueError, KeyError, TypeError, RecursionError, StopIteration):
        return None  # another's file of the same name, or a merge that has no base
    return Origin(name, mark) if isinstance(name, str) and isinstance(mark, str) else None


def _base_of_run(folder: Path) -> str | None:
    """The base's folder, which nothing published names: the recipe beside the adapter does."""
    recipe = folder.parent / "recipe.resolved.yaml"
    try:
        base = yaml.safe_load(recipe.read_text(encoding="utf-8"))["base"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError, RecursionError):
        return None
    return base if isinstance(base, str) and folder.name == "adapter" else None


def _without_tied_head(weights: Weights, config: dict[str, Any], where: Path) -> Weights:
    """Leave out a head that is the embeddings once more.

    Raises:
        ModelError: it should be, and is not.
    """
    if _HEAD not in weights or _EMBEDDINGS not in weights:
        return weights
    tied = _tied(config)
    if tied is False:
        return weights
    if _same_bits(weights[_EMBEDDINGS], weights[_HEAD]):
        return {name: tensor for name, tensor in weights.items() if name != _HEAD}
    if tied:
        raise ModelError(
            f"{where}: its config ties the head to the embeddings, but the files hold two that differ; "
            "one of them is wrong: set tie_word_embeddings to false, or remove the head"
        )
    return weights


def _same_bits(one: StoredTensor, other: StoredTensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with one.file.open("rb") as first, other.file.open("rb") as second:
        for start in range(0, one.num_bytes, _COMPARED_BYTES):
            size = min(_COMPARED_BYTES, one.num_bytes - start)
            first.seek(one.start + start)
            second.seek(other.start + start)
            if first.read(size) != second.read(size):
                return False
    return True


def check_origin(adapted: SourceModel, base: SourceModel, force: bool) -> None:
    """Refuse a vector that would be measured from another base than its own.

    Raises:
        ModelError: the model's record, or the adapter, names another base, and `force` is not given.
    """
    origin = adapted.origin
    if origin is None or force or origin.fingerprint == base.fingerprint:
        return
    raise ModelError(
        f"{adapted.name} was made from {origin.name} (fingerprint {origin.fingerprint}), and --base is {base.name} "
        f"({base.fingerprint}); a difference means something only from a model's own base: give that one, or --force"
    )
