"""Read a PEFT folder as a checkpoint: its LoRA factors, and the modules that it saved whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex

from lingraft.cache import files_fingerprint, fingerprint
from lingraft.checkpoints.config import read_object
from lingraft.checkpoints.weights import StoredTensor, Weights, read_header
from lingraft.errors import ModelError
from lingraft.layer_groups import EMBEDDINGS, HEAD, canonical_name, is_adapter_factor, plain_name

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"

_PLAIN_SETTINGS = frozenset(
    [
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
    ]
)
"""Settings under which an adapter computes W + scale * B A; one with any other setting switched on is refused."""
_OFF_VALUES: tuple[Any, ...] = (None, False, "", "none", [], {})
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base unchanged; any other value may change the base's own weights."""
_WAY_OUT = "merge it into its base with peft first, and give the model"
_FACTORS = {"lora_A": "down", "lora_B": "up"}
_MATCH_SECONDS = 0.1
"""Time limit for one pattern and one name; whoever wrote the adapter wrote the patterns."""


@dataclass(frozen=True)
class LowRank:
    """scale * up @ down, to be added to a linear's weight (arXiv 2106.09685 §4.1)."""

    up: StoredTensor
    """(out, rank)"""
    down: StoredTensor
    """(rank, in)"""
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)"""
        return self.up.shape[0], self.down.shape[1]


@dataclass(frozen=True)
class Adapter:
    """What an adapter changes in its base, by canonical parameter name."""

    base: str
    """The base that the adapter's config names."""
    low_rank: dict[str, LowRank]
    saved: Weights
    ties: bool = False
    """Whether a tied head stays tied to the embeddings (`ensure_weight_tying`)."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def read_adapter(folder: Path) -> Adapter:
    """Read the factors and saved modules of a PEFT folder.

    Raises:
        ModelError: no safetensors, or an adapter of another kind than plain LoRA.
    """
    if not (folder / FILE).is_file():
        raise ModelError(f"{folder}: there is no {FILE}; lingraft reads safetensors only: save it with save_pretrained")
    config = read_object(folder / CONFIG)
    _check(folder, config)
    factors: dict[str, dict[str, StoredTensor]] = {}
    saved: Weights = {}
    for name, tensor in read_header(folder / FILE).items():
        if is_adapter_factor(name):
            factors.setdefault(canonical_name(name), {})[_side(folder, name)] = tensor
        else:
            _check_saved(folder, name, config)
            saved[canonical_name(name)] = tensor
    if not factors and not saved:
        raise ModelError(f"{folder / FILE}: there is no tensor in it; fetch it again")
    low_rank = {name: _low_rank(folder, name, pair, config) for name, pair in factors.items()}
    return Adapter(config["base_model_name_or_path"], low_rank, saved, bool(config.get("ensure_weight_tying")))


def _side(folder: Path, name: str) -> str:
    """Which factor of a linear a tensor is, by the name that peft gives it."""
    factor = next((part for part in name.split(".") if part.startswith("lora_")), "")
    if factor in _FACTORS:
        return _FACTORS[factor]
    what = "LoRA on embeddings" if factor.startswith("lora_embedding") else "more than two factors of a linear"
    raise ModelError(f"{folder / FILE}: '{name}' is {what}, and only LoRA on linears can be read here: {_WAY_OUT}")


def _check_saved(folder: Path, name: str, config: dict[str, Any]) -> None:
    """Refuse a tensor that is no LoRA factor and belongs to no module under `modules_to_save`."""
    module = plain_name(name).removesuffix(".weight").removesuffix(".bias")
    if not any(
        f".{module}".endswith(f".{saved}") for saved in (EMBEDDINGS, HEAD, *(config.get("modules_to_save") or ()))
    ):
        raise ModelError(
            f"{folder / FILE}: '{name}' is no LoRA factor, and modules_to_save does not name it: {_WAY_OUT}"
        )


def _low_rank(folder: Path, name: str, pair: dict[str, StoredTensor], config: dict[str, Any]) -> LowRank:
    shapes = [tensor.shape for tensor in pair.values()]
    if (
        len(pair) != 2
        or any(len(shape) != 2 for shape in shapes)
        or not pair["up"].shape[1] == pair["down"].shape[0] > 0
    ):
        raise ModelError(f"{folder / FILE}: the LoRA factors of '{name}' do not make a pair; fetch it again")
    module, rank = plain_name(pair["down"].name).removesuffix(".weight"), pair["down"].shape[0]
    stated = _of_module(folder, config, module, "r", "rank_pattern")
    if stated != rank:
        raise ModelError(
            f"{folder}: the LoRA factors of '{name}' have rank {rank}, {CONFIG} says {stated:g} (r, rank_pattern); "
            "they belong to different adapters, fetch both again"
        )
    alpha = _of_module(folder, config, module, "lora_alpha", "alpha_pattern")
    return LowRank(pair["up"], pair["down"], alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def adapter_fingerprint(folder: Path, base: str) -> str:
    """The fingerprint of an adapter and its base; `base` is the fingerprint of the base."""
    return fingerprint({"base": base, "adapter": files_fingerprint([folder / CONFIG, folder / FILE])})


def _check(folder: Path, config: dict[str, Any]) -> None:
    """Refuse every adapter that is not plain LoRA."""
    if not isinstance(config.get("base_model_name_or_path"), str):
        raise ModelError(f"{folder / CONFIG}: the adapter does not name its base; set base_model_name_or_path")
    others = [key for key, value in config.items() if key not in _PLAIN_SETTINGS and not _is_off(value)]
    if config.get("peft_type") != "LORA":
        others.append("peft_type")
    if not any(
        config.get("init_lora_weights") is plain or config.get("init_lora_weights") == plain for plain in _PLAIN_STARTS
    ):
        others.append("init_lora_weights")
    if others:
        given = ", ".join(f"{key} {config.get(key)!r}"[:200] for key in others)
        raise ModelError(
            f"{folder / CONFIG}: only plain LoRA can be read here, and this adapter has {given}: {_WAY_OUT}"
        )
    saved = config.get("modules_to_save") or []
    if not isinstance(saved, list) or not all(isinstance(name, str) for name in saved):
        raise ModelError(f"{folder / CONFIG}: modules_to_save is {saved!r}, where a list of names must stand")


def _is_off(value: Any) -> bool:
    """Whether a setting is switched off. 0 counts as on: it may be a factor."""
    return any(value is off or (type(value) is type(off) and value == off) for off in _OFF_VALUES)


def _of_module(folder: Path, config: dict[str, Any], module: str, key: str, patterns: str) -> float:
    """A number from the config. Patterns may give another number for the modules that they match, as in peft.

    Raises:
        ModelError: it is no number above 0, a pattern is no regular expression, or a pattern exceeds the time limit.
    """
    where = f"{folder / CONFIG}: {key} and {patterns}"
    given = config.get(patterns) or {}
    if not isinstance(given, dict):
        raise ModelError(f"{where} must give numbers by module; {patterns} is {given!r}")
    number = config.get(key)
    for pattern, value in given.items():
        try:
            if regex.match(rf"(.*\.)?({pattern})$", module, timeout=_MATCH_SECONDS):
                number = value
                break
        except TimeoutError:
            raise ModelError(
                f"{where}: the pattern {pattern!r} takes too long to match '{module}'; simplify it"
            ) from None
        except (regex.error, RecursionError) as error:
            raise ModelError(f"{where}: {pattern!r} is no pattern ({error}); correct it") from None
    if number is None or type(number) not in (int, float) or not 0 < number < math.inf:
        raise ModelError(f"{where} must give numbers above 0, and give {number!r} for '{module}'; correct them")
    return float(number)
