"""Open a checkpoint for a merge: a model by folder or hub name, or a PEFT adapter on its base."""

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
"""The file in a model's folder that records what the model was made from."""

_EMBEDDINGS, _HEAD = f"{EMBEDDINGS}.weight", f"{HEAD}.weight"
_COMPARED_BYTES = 2**22


@dataclass(frozen=True)
class Origin:
    """The base that a model says it was made from."""

    name: str
    fingerprint: str


@dataclass(frozen=True, eq=False)
class SourceModel:
    """A checkpoint, opened but not read. An adapter's saved modules replace the tensors of its base."""

    name: str
    """As it was given."""
    folder: Path
    config: dict[str, Any]
    weights: Weights
    """By canonical name; a tied head is left out."""
    low_rank: dict[str, LowRank]
    """Canonical name -> the low-rank update of an adapter."""
    base: SourceModel | None = None
    """The base of an adapter; `None` for a model."""

    @property
    def model(self) -> SourceModel:
        """The whole model that gives names, files and number types: itself, or an adapter's base."""
        return self.base or self

    @property
    def model_folder(self) -> Path:
        """The folder of the config; for an adapter the base's folder."""
        return self.model.folder

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of the tokenizer: its own folder, else the folder of an adapter's base."""
        return self.folder if tokenizer_files(self.folder) else self.model_folder

    @cached_property
    def settings(self) -> Settings:
        """The settings in its config."""
        return Settings(self.model_folder, self.config)

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of weights, config and tokenizer."""
        return adapter_fingerprint(self.folder, self.base.fingerprint) if self.base else model_fingerprint(self.folder)

    @cached_property
    def origin(self) -> Origin | None:
        """The base that it was made from, where a record names it."""
        if self.base:
            return Origin(self.base.name, self.base.fingerprint)
        return _recorded_base(self.folder, "base")

    @property
    def is_tied(self) -> bool:
        """Whether the head is the embeddings."""
        return _HEAD not in self.weights

    def dtype(self, name: str) -> str:
        """The stored dtype of a tensor; for an adapter's saved module, its base's dtype."""
        return self.model.weights[name].dtype


def open_source_model(name: str | Path, base: SourceModel | None = None, force: bool = False) -> SourceModel:
    """Open a checkpoint by folder or hub name, an adapter with the base that it names.

    `base` is the base of the merge. With `force`, an adapter whose base cannot be found is opened on it.

    Raises:
        ModelError: no such model, weights that are missing, truncated or pickled, an unsupported
            architecture or adapter.
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
    weights = {canonical_name(tensor_name): tensor for tensor_name, tensor in find_weights(folder).items()}
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
    unknown = [changed for changed in adapter.low_rank if changed not in own.weights]
    unknown += [changed for changed in adapter.saved if changed not in own.weights and changed != _HEAD]
    if unknown:
        raise ModelError(f"{folder}: the adapter changes '{unknown[0]}', which its base {own.name} does not have")
    for changed, factors in adapter.low_rank.items():
        if factors.shape != own.weights[changed].shape:
            raise ModelError(
                f"{folder}: the adapter's factors of '{changed}' make {list(factors.shape)}, its base {own.name} has "
                f"{list(own.weights[changed].shape)}; they do not belong together"
            )
    weights = {**own.weights, **adapter.saved}
    if own.is_tied:
        weights = _without_tied_head(weights, {**own.config, "tie_word_embeddings": True}, folder)
    return SourceModel(name, folder, own.config, weights, adapter.low_rank, own)


def _check_tied(folder: Path, adapter: Adapter, base: SourceModel) -> None:
    """Refuse an adapter that changes only one of tied embeddings and head."""
    if _HEAD in adapter.low_rank:
        raise ModelError(
            f"{folder}: the adapter changes the head of {base.name}, which is tied to its embeddings: they would "
            "differ; "
            "set tie_word_embeddings to false and save the model with a head of its own, then merge with peft"
        )
    if _EMBEDDINGS in adapter.saved and _HEAD not in adapter.saved and not adapter.ties:
        raise ModelError(
            f"{folder}: the adapter saved the embeddings of {base.name} without the head that is tied to them: peft "
            "uses the old head; save both (modules_to_save), or with ensure_weight_tying"
        )


def _base_of(folder: Path, adapter: Adapter, base: SourceModel | None, force: bool) -> SourceModel:
    """The base of the merge if the adapter was trained on it, else the base that the adapter or its run names."""
    recorded = _recorded_base(folder, "trained_from", "base")  # an adapter's record names the model it was trained from
    if base and (recorded.fingerprint == base.fingerprint if recorded else adapter.base in _names_of(base)):
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
    if recorded and recorded.fingerprint != own.fingerprint and not force:
        raise ModelError(
            f"{folder}: the adapter was trained on a {recorded.name} of fingerprint {recorded.fingerprint}, and "
            f"{own.name} is another ({own.fingerprint}); give the base that it was trained on, or --force"
        )
    return base if base and base.fingerprint == own.fingerprint else own


def _names_of(base: SourceModel) -> tuple[str, ...]:
    return base.name, str(base.folder), str(base.folder.resolve())


def _recorded_base(folder: Path, *keys: str) -> Origin | None:
    """The base in a model's `lingraft.json`, under the first of these keys that is present."""
    path = folder / RECORD
    try:
        record = read_json(path) if path.is_file() else {}
        base = next(record[key] for key in keys if key in record)
        name, digest = base["name"], base["fingerprint"]
    except (ValueError, KeyError, TypeError, RecursionError, StopIteration):
        return None  # another's file of the same name, or a merge that has no base
    return Origin(name, digest) if isinstance(name, str) and isinstance(digest, str) else None


def _base_of_run(folder: Path) -> str | None:
    """The base's folder, from the resolved recipe beside the adapter: published files have no paths."""
    recipe = folder.parent / "recipe.resolved.yaml"
    try:
        base = yaml.safe_load(recipe.read_text(encoding="utf-8"))["base"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError, RecursionError):
        return None
    return base if isinstance(base, str) and folder.name == "adapter" else None


def _without_tied_head(weights: Weights, config: dict[str, Any], where: Path) -> Weights:
    """Leave out a stored head that equals the embeddings.

    Raises:
        ModelError: the config ties the head, but the files hold two different tensors.
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
    """Refuse to subtract a base that is not the model's own.

    Raises:
        ModelError: the model's record, or the adapter, names another base, and `force` is not given.
    """
    origin = adapted.origin
    if origin is None or force or origin.fingerprint == base.fingerprint:
        return
    raise ModelError(
        f"{adapted.name} was made from {origin.name} (fingerprint {origin.fingerprint}), and --base is {base.name} "
        f"({base.fingerprint}); only the difference from a model's own base is a task vector: give that base, "
        "or --force"
    )
