"""`method: auto`: the method that our results say is best for a base, written out as plain keys of the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm
from typing import Any

from lingraft.architectures import architecture_of
from lingraft.checkpoints.read import CONFIG_ONLY, find_model, read_config
from lingraft.errors import UserError
from lingraft.layer_groups import is_base, text_config
from lingraft.methods.silent_adapters import SilentAdapters

AUTO = "auto"
KL_WEIGHT = 4.0
SHARE = 0.2
"""Of the tokens, what the base generates."""
RATE, RATE_WIDTH = float(SilentAdapters.training["learning_rate"]), 576
"""Learning rate of silent adapters, and the width of the base on which it was found."""


def has_silent_adapters(config: Any) -> bool:
    """Whether silent adapters can stand beside the feed-forward blocks of a base."""
    return is_base(config) and architecture_of(config).gated_adapters


def rate_of(config: Any) -> float:
    """The learning rate of silent adapters on a base of this width.

    A step of Muon moves what a unit computes in proportion to the root of the width, since its root mean square is that
    of AdamW's (arXiv 2502.16982 §2.2).
    """
    return float(f"{RATE * min(1, RATE_WIDTH / text_config(config).hidden_size) ** 0.5:.1g}")


def extra_width_of(config: Any) -> int:
    """Dimensions that the residual stream of a base gains; 0 where it cannot be wider, here or in llama.cpp or vLLM.

    About an eighth, in steps by which the base's own width can be quantised in blocks and divided among devices.
    """
    row, text = architecture_of(config), text_config(config)
    if not row.wide_stream or row.heads_fill_width:
        return 0
    heads = int(text.num_attention_heads) if row.heads_divide_width else 1
    steps = [lcm(heads, step) for step in (256, 32, 8) if text.hidden_size % step == 0]
    nearest = (round(text.hidden_size / 8 / step) * step for step in steps)
    return next(filter(None, nearest), heads)


def write_out(values: Any) -> list[str]:
    """Replace each `method: auto` in the values of a recipe, in place; returns what stands in the way.

    Silent adapters make the model another shape, so where it is handed on or merged, or other keys need the shape of
    the base, all weights train. Both are held to the base by text that it generates. Settings that are given stay.
    """
    if not isinstance(values, dict):
        return []
    stages = list(_stages(values))
    problems = []
    for place, stage in stages:
        if stage.get("method") not in (AUTO, {"name": AUTO}):
            continue
        stage["method"] = {"name": "full"}
        if stage.get("instructions"):
            problems.append(f"{place}method: auto is for text; name the method of a stage of instructions")
            continue
        is_handed_on = stage is not stages[-1][1] or bool(values.get("merge") or stage.get("merge"))
        if not is_handed_on and not _needs_shape(values, stage):
            stage["method"] = _silent(values, stage) or stage["method"]
        stage.setdefault("replay", {"self_generated": SHARE, "kl_weight": KL_WEIGHT})
    return problems


def _needs_shape(values: dict[str, Any], stage: dict[str, Any]) -> bool:
    """Whether other keys ask for weights of the base that train."""
    averaging = stage.get("averaging")
    is_pulled = isinstance(averaging, dict) and bool(averaging.get("pull"))
    return values.get("export") == "plain" or bool(stage.get("penalties")) or is_pulled


def _silent(values: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any] | None:
    """The settings of silent adapters, where a base, which is there, can have them; their rate under `training`."""
    base, training = values.get("base"), stage.get("training") or {}
    try:
        config = read_config(find_model(base, CONFIG_ONLY)) if isinstance(base, str) and base else None
    except UserError:  # reported as a problem of the base
        return None
    if config is None or not has_silent_adapters(config) or not isinstance(training, dict):
        return None
    stage["training"] = {"learning_rate": rate_of(config), **training}
    extra = extra_width_of(config) if values.get("export") in (None, "wider") else 0
    return {"name": "silent-adapters", **({"extra_width": extra} if extra else {})}


def _stages(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each stage with the prefix of its keys in messages; the recipe itself is the short form of one."""
    if values.get("stages") is None:
        yield "", values
    elif isinstance(values["stages"], dict):
        for name, stage in values["stages"].items():
            if isinstance(stage, dict):
                yield f"stages.{name}.", stage
