"""Allowed values of the Trainer's arguments. Each argument is here once, or in `OWNED_ARGUMENTS`; a test checks it.

A number must be finite and in its mathematical range, a word must be one that the Trainer knows, and arguments that
lingraft sets cannot be set. `arguments.check_arguments` finds what only several arguments together show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from lingraft.errors import nearest


class Range(NamedTuple):
    """Numbers from `low` to `high`; with `above`, `low` itself is not one of them."""

    low: float
    high: float
    above: bool = False
    steps: bool = False
    """Below 1 it is a share of all steps; from 1 on a number of steps."""
    also: tuple[float, ...] = ()
    reason: str = ""

    def problem(self, value: float) -> str | None:
        """What is wrong with a value, and what is allowed."""
        inside = self.low < value <= self.high if self.above else self.low <= value <= self.high
        if value in self.also or (inside and not (self.steps and value > 1 and value != int(value))):
            return None
        low = f"more than {self.low:g}" if self.above else f"at least {self.low:g}"
        high = f" and at most {self.high:,.0f}" if self.high >= 1 else " and below 1"
        share = "; below 1 it is a share of all steps, from 1 on a whole number of them" if self.steps else ""
        also = "".join(f", or {number:g}" for number in self.also)
        return f"{low}{high}{also} (given: {value:g}){share}{self.reason}"


BELOW_ONE = math.nextafter(1.0, 0.0)
MANY = 10.0**9
COUNT = Range(1, 10**6)
STEPS = Range(0, MANY, above=True, steps=True)

RANGES: Mapping[str, Range] = {
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "num_train_epochs": Range(0, 10**6, above=True),
    "max_steps": Range(1, MANY, also=(-1,)),
    "learning_rate": Range(0, 100),
    "embedding_learning_rate": Range(0, 100),
    "warmup_steps": Range(0, MANY, steps=True),
    "weight_decay": Range(0, 100),
    "adam_beta1": Range(0, BELOW_ONE),
    "adam_beta2": Range(0, BELOW_ONE),
    "adam_epsilon": Range(0, 1),
    "max_grad_norm": Range(0, MANY),
    "neftune_noise_alpha": Range(0, 10**6),
    "torch_empty_cache_steps": Range(1, MANY),
    "logging_steps": STEPS,
    "eval_steps": STEPS,
    "save_steps": STEPS,
    "eval_delay": Range(0, MANY),
    "eval_accumulation_steps": Range(1, MANY),
    "save_total_limit": Range(2, MANY, reason=": a killed run needs the checkpoint before the unfinished one"),
    "dataloader_num_workers": Range(0, 256),
    "dataloader_prefetch_factor": Range(1, 10**4),
    "ddp_bucket_cap_mb": Range(1, 10**6),
    "ddp_timeout": Range(1, MANY),
}

_LOG_LEVELS = ("debug", "info", "warning", "error", "critical", "passive")
_BY_LANGUAGE = "each language has a loss of its own, so there is no one loss to watch; use early_stopping"
CHOICES: Mapping[str, tuple[str | bool, ...]] = {
    "lr_scheduler_type": (
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
        "cosine_with_min_lr",
        "cosine_warmup_with_min_lr",
        "warmup_stable_decay",
    ),
    "logging_strategy": ("no", "steps", "epoch"),
    "eval_strategy": ("no", "steps", "epoch"),
    "save_strategy": ("no", "steps", "epoch"),
    "log_level": _LOG_LEVELS,
    "log_level_replica": _LOG_LEVELS,
    "torch_compile_mode": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "include_num_input_tokens_seen": (True, False, "all", "non_padding", "no"),
    "train_sampling_strategy": ("random", "sequential"),
    "dataloader_multiprocessing_context": ("fork", "spawn", "forkserver"),
    "logging_nan_inf_filter": (False,),
    "ddp_backend": ("nccl", "mpi", "gloo", "xccl", "hccl"),
}
REFUSED: Mapping[tuple[str, str | bool], str] = {
    ("lr_scheduler_type", "reduce_lr_on_plateau"): _BY_LANGUAGE,
    ("lr_scheduler_type", "greedy"): _BY_LANGUAGE,
    ("save_strategy", "best"): _BY_LANGUAGE,
    ("logging_nan_inf_filter", True): "a loss that is no number ends training",
}
"""Words that the Trainer knows and that cannot work here, and why."""

CHECKPOINTING_KEYS = ("use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop")
"""What `torch.utils.checkpoint` takes, by name."""
KEYS: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"), CHECKPOINTING_KEYS
)

BUILT_TO_CHECK = frozenset({"optim", "optim_args", "optim_target_modules", "lr_scheduler_kwargs", "report_to", "debug"})
"""What `check_arguments` finds out by building it."""
DEVICE_ARGUMENTS = frozenset({"bf16", "fp16", "tf32", "torch_compile", "torch_compile_backend", "use_liger_kernel"})
"""What a machine may lack. `torch_compile_mode` needs a compiler too; its values are in `CHOICES`."""
HARMLESS = frozenset(
    {
        *(
            "average_tokens_across_devices",
            "activation_checkpointing",
            "gradient_checkpointing",
            "use_cache",
            "use_cpu",
        ),
        *("liger_kernel_config", "logging_first_step", "log_on_each_node", "run_name", "project"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "eval_on_start"),
        *("eval_do_concat_batches", "eval_use_gather_object", "include_for_metrics", "batch_eval_metrics"),
        *("save_on_each_node", "full_determinism", "dataloader_drop_last", "dataloader_pin_memory"),
        *("dataloader_persistent_workers", "length_column_name", "ddp_find_unused_parameters"),
        *("ddp_broadcast_buffers", "ddp_static_graph", "skip_memory_metrics"),
    }
)
"""Switches and names, any value of which is fine that has the right type."""


def rule_problem(name: str, value: object) -> str | None:
    """What is wrong with the value of an argument, which has the right type."""
    if value is None:
        return None
    if name in RANGES and isinstance(value, int | float):
        return RANGES[name].problem(value)
    if name in CHOICES and value not in CHOICES[name]:
        if isinstance(value, str | bool) and (reason := REFUSED.get((name, value))):
            return f"not {value}: {reason}"
        allowed = [str(option) for option in CHOICES[name]]
        return f"there is no '{value}'{nearest(str(value), allowed)}; allowed: {', '.join(allowed)}"
    if name in KEYS and isinstance(value, str):
        return "give a mapping of keys to values"
    if name in KEYS and isinstance(value, dict) and (unknown := [key for key in value if key not in KEYS[name]]):
        return (
            f"unknown key '{unknown[0]}'{nearest(str(unknown[0]), KEYS[name])}; allowed here: {', '.join(KEYS[name])}"
        )
    return None
