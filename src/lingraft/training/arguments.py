"""The Trainer's arguments: which ones lingraft sets, their defaults, and a check by the Trainer itself."""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingraft.training.graft_arguments import GraftArguments

logger = logging.getLogger(__name__)

_TRIED_STEPS = 10

OWNED_ARGUMENTS: Mapping[str, str] = {
    "output_dir": "use --out",
    "resume_from_checkpoint": "a run that is started again resumes by itself",
    "ignore_data_skip": "a resumed run sees exactly the data that is left",
    "save_only_model": "a checkpoint without its optimizer cannot be resumed",
    "remove_unused_columns": "the language of each token travels beside the text",
    "label_names": "labels are the tokens themselves",
    "prediction_loss_only": "validation needs the loss alone",
    "seed": "use the recipe's top-level 'seed'",
    "data_seed": "use the recipe's top-level 'seed'",
    "do_train": "a recipe always trains",
    "do_eval": "use eval_strategy",
    "do_predict": "use 'evaluation'",
    "disable_tqdm": "progress is logged line by line",
    "push_to_hub": "upload the finished model folder",
    **dict.fromkeys(
        ("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
        "a model is not selected on the text that it is measured on",
    ),
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval"), "validation has the precision of training"),
    "auto_find_batch_size": "a run that is started again has the batch that it began with",
    "enable_jit_checkpoint": "a signal ends a run, which goes on from its newest checkpoint",
    "restore_callback_states_from_checkpoint": "a run that is started again knows its state by itself",
    "accelerator_config": "the order of the batches is part of what is resumed",
    "dataloader_in_order": "the order of the batches is part of what is resumed",
    "local_rank": "the launcher sets it",
    "label_smoothing_factor": "the loss is the plain cross-entropy, as it is measured",
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "deepspeed", "parallelism_config"),
        "a sharded model cannot be merged yet; train on whole replicas, with torchrun",
    ),
    **dict.fromkeys(
        ("hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision"),
        "upload the finished model folder",
    ),
}
"""Names of TrainingArguments that a recipe may not set, and why or what to do instead."""

DEFAULT_ARGUMENTS: Mapping[str, Any] = {
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "logging_steps": 10,
    "logging_nan_inf_filter": False,
    "eval_strategy": "steps",
    "eval_steps": 0.1,  # below 1: a share of all steps
    "save_strategy": "steps",
    "save_steps": 0.05,
    "save_total_limit": 2,
    "report_to": "none",
    "dataloader_pin_memory": False,
    "ddp_find_unused_parameters": False,
}


def training_arguments(settings: Mapping[str, Any], folder: Path, seed: int) -> GraftArguments:
    """Build the arguments from settings with the Trainer's own names.

    Raises:
        ValueError: the Trainer does not accept them together.
    """
    from lingraft.training.graft_arguments import GraftArguments

    bf16 = mixed_precision(settings) and not settings.get("fp16", False)
    merged = {**DEFAULT_ARGUMENTS, "bf16": bf16, **settings}
    merged["use_cpu"] = merged.get("use_cpu", False) or not has_accelerator()  # the Trainer asks for it beside bf16
    arguments = GraftArguments(
        output_dir=str(folder),
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        prediction_loss_only=True,
        disable_tqdm=True,
        **merged,
    )
    if arguments.n_gpu > 1:  # several GPUs in one process would be DataParallel, which shares one forward
        logger.warning("%d GPUs are here and one is used; start with torchrun to use all", arguments.n_gpu)
        arguments._n_gpu = 1
    return arguments


def check_arguments(settings: Mapping[str, Any]) -> None:
    """Let the Trainer build optimizer and scheduler for a model of one weight, and take a few steps.

    Raises:
        Exception: as raised by the Trainer, the optimizer or the scheduler.
    """
    import torch
    from torch import Tensor, nn
    from transformers import Trainer

    from lingraft.training.muon import muon

    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Linear(1, 1)
        arguments = training_arguments(settings, Path(folder), seed=0)
        trainer = Trainer(model, arguments, train_dataset=[{}], eval_dataset=[{}])
        trainer.get_train_dataloader()
        trainer.get_eval_dataloader()
        if arguments.has_muon:
            trainer.optimizer = muon(model, arguments, ())
        trainer.create_optimizer_and_scheduler(num_training_steps=_TRIED_STEPS)
        assert trainer.optimizer is not None, "the Trainer has made it"
        assert trainer.lr_scheduler is not None, "the Trainer has made it"
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        for _ in range(_TRIED_STEPS):
            trainer.optimizer.step()
            trainer.lr_scheduler.step()
            for rate in trainer.lr_scheduler.get_last_lr():
                if not (isinstance(rate, float | int | Tensor) and 0 <= float(rate) < math.inf):
                    raise ValueError(f"the scheduler makes {rate} of the learning rate")


def missing_here(settings: Mapping[str, Any]) -> dict[str, str]:
    """Arguments that need what this machine lacks -> what is missing."""
    import torch

    on_cpu = settings.get("use_cpu", False) or not has_accelerator()
    cuda = torch.cuda.is_available() and not on_cpu
    has_tf32 = cuda and torch.cuda.get_device_capability()[0] >= 8
    needs: dict[str, tuple[bool, str]] = {
        "fp16": (not on_cpu, "mixed precision in fp16 needs a GPU; on a CPU bf16 works"),
        "bf16": (not cuda or torch.cuda.is_bf16_supported(), "this GPU has no bf16; fp16 works"),
        "tf32": (has_tf32, "needs a GPU with TF32 (Ampere or newer)"),
        "use_liger_kernel": (not on_cpu, "its kernels need a GPU"),
    }
    if settings.get("torch_compile_backend", "inductor") == "inductor":
        needs |= dict.fromkeys(("torch_compile", "torch_compile_mode", "torch_compile_backend"), _compiler(cuda))
    return {name: problem for name, (is_here, problem) in needs.items() if settings.get(name) and not is_here}


def _compiler(cuda: bool) -> tuple[bool, str]:
    """Whether the compiler for torch.compile is found (C for a GPU, C++ for a CPU), and what is missing."""
    if cuda:
        return any(map(shutil.which, ("cc", "gcc", "clang", "cl"))), "needs a C compiler"
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return shutil.which(name) is not None, f"needs a C++ compiler; there is no {name} (CXX names another)"


def has_accelerator() -> bool:
    """Whether there is a GPU, or another device that is not the CPU."""
    import torch

    return torch.accelerator.is_available()


def mixed_precision(settings: Mapping[str, Any]) -> bool:
    """Whether training runs under autocast; then frozen weights keep their stored dtype."""
    import torch

    default = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return bool(settings.get("bf16", default) or settings.get("fp16", False))
