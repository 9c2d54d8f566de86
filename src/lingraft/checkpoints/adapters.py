"""A PEFT folder as a checkpoint: its LoRA factors, and the modules that it saved whole."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.artefacts import files_fingerprint, fingerprint, read_json
from lingraft.checkpoints.weights import StoredTensor, Weights, read_header
from lingraft.errors import ModelError
from lingraft.layer_groups import canonical_name, is_adapter_factor, plain_name

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"

_SAY_NOTHING = frozenset(
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
"""Settings that leave an adapter at W + scale * B A. With any other switched on it is something else."""
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")


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
    """What an adapter does to its base, by canonical names."""

    base: str
    """The base that it says it belongs to."""
    low_rank: dict[str, LowRank]
    saved: Weights


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def read_adapter(folder: Path) -> Adapter:
    """The factors and saved modules of a PEFT folder.

    Raises:
        ModelError: no safetensors, or an adapter of another kind than plain LoRA.
    """
    if not (folder / FILE).is_file():
        raise ModelError(f"{folder}: there is no {FILE}; lingraft reads safetensors only: save it with save_pretrained")
    try:
        config = dict(read_json(folder / CONFIG))
    except (ValueError, TypeError, RecursionError):
        raise ModelError(f"{folder / CONFIG} is not the config of an adapter; fetch it again") from None
    _check(folder, config)
    factors: dict[str, dict[str, StoredTensor]] = {}
    saved: Weights = {}
    for name, tensor in read_header(folder / FILE).items():
        if is_adapter_factor(name):
            side = "up" if ".lora_B" in name else "down"
            factors.setdefault(canonical_name(name), {})[side] = tensor
        else:
            saved[canonical_name(name)] = tensor
    low_rank = {}
    for name, pair in factors.items():
        shapes = [tensor.shape for tensor in pair.values()]
        if len(pair) != 2 or any(len(of) != 2 for of in shapes) or not pair["up"].shape[1] == pair["down"].shape[0] > 0:
            raise ModelError(f"{folder / FILE}: the LoRA factors of '{name}' do not make a pair; fetch it again")
        low_rank[name] = LowRank(pair["up"], pair["down"], _scale(folder, pair["down"], config))
    return Adapter(config["base_model_name_or_path"], low_rank, saved)


def adapter_fingerprint(folder: Path, base: str) -> str:
    """Stands for an adapter and its base, which has the fingerprint `base`."""
    return fingerprint({"base": base, "adapter": files_fingerprint([folder / CONFIG, folder / FILE])})


def _check(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what is not plain LoRA."""
    if not isinstance(config.get("base_model_name_or_path"), str):
        raise ModelError(f"{folder / CONFIG}: the adapter does not name its base; set base_model_name_or_path")
    start = config.get("init_lora_weights")
    others = [key for key, value in config.items() if key not in _SAY_NOTHING and value and value != "none"]
    if config.get("peft_type") != "LORA":
        others.append("peft_type")
    elif isinstance(start, str) and start.lower().startswith(_CHANGES_THE_BASE):
        others.append("init_lora_weights")  # these change the base's own weights
    if others:
        given = ", ".join(f"{key} {config.get(key)!r}" for key in others)
        raise ModelError(
            f"{folder / CONFIG}: only plain LoRA can be read here, and this adapter has {given}: "
            "merge it into its base with peft first, and give the model"
        )


def _scale(folder: Path, down: StoredTensor, config: dict[str, Any]) -> float:
    """Alpha / rank, or alpha / sqrt(rank); alpha may be another for some modules."""
    rank, module = down.shape[0], plain_name(down.name).removesuffix(".weight")
    try:
        patterns = (config.get("alpha_pattern") or {}).items()
        matching = (value for pattern, value in patterns if re.match(rf"(.*\.)?({pattern})$", module))
        alpha = float(next(matching, config["lora_alpha"]))
    except (KeyError, TypeError, ValueError, AttributeError, re.error):
        raise ModelError(f"{folder / CONFIG}: lora_alpha and alpha_pattern must give numbers; correct them") from None
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
