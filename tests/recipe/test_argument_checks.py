"""`training:` of a recipe: every argument of the Trainer is decided on, and what cannot work is found at load."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import pytest
import torch

from lingraft.errors import RecipeError
from lingraft.recipe import load_recipe
from lingraft.training.argument_rules import BUILT_TO_CHECK, CHOICES, DEVICE_ARGUMENTS, HARMLESS, KEYS, RANGES
from lingraft.training.arguments import DEFAULT_ARGUMENTS, OWNED_ARGUMENTS, training_arguments
from lingraft.training.graft_arguments import GraftArguments

ON_CPU = not torch.accelerator.is_available()
FIELDS = {field.name for field in dataclasses.fields(GraftArguments) if field.init}


def test_every_argument_of_the_trainer_is_decided_on_exactly_once() -> None:
    decided = Counter([*OWNED_ARGUMENTS, *RANGES, *CHOICES, *KEYS, *BUILT_TO_CHECK, *DEVICE_ARGUMENTS, *HARMLESS])
    assert FIELDS - set(decided) == set()
    assert [name for name, count in decided.items() if count > 1] == []
    assert set(decided) - FIELDS <= set(OWNED_ARGUMENTS)  # of other versions


def test_every_number_has_a_range() -> None:
    numbers = {f.name for f in dataclasses.fields(GraftArguments) if "int" in str(f.type) or "float" in str(f.type)}
    words = {
        "include_num_input_tokens_seen",
        *(f.name for f in dataclasses.fields(GraftArguments) if "Interval" in str(f.type)),
    }
    assert numbers - set(OWNED_ARGUMENTS) - words - set(RANGES) == set()


def problems(recipe: dict, overrides: list[str], runs_here: bool = True) -> list[str]:
    try:
        load_recipe(recipe, overrides, runs_here)
    except RecipeError as error:
        return list(error.problems)
    return []


@pytest.fixture
def refused(recipe):
    def check(setting: str) -> str:
        found = problems(recipe, [f"training.{setting}"])
        assert len(found) == 1, found
        return found[0]

    return check


@pytest.mark.parametrize("wrong", [".nan", ".inf", "-.inf", "-2", "'3'", "1e300", "[1]", "true"])
def test_no_number_may_be_endless_negative_huge_or_a_word(recipe, wrong) -> None:
    """All at once, so that each costs no load of its own."""
    found = problems(recipe, [f"training.{name}={wrong}" for name in RANGES])
    assert sorted(problem.split(":")[0] for problem in found) == sorted(f"training.{name}" for name in RANGES)


REFUSED = {
    "use_liger_kernel=true": "install it with: pip install liger-kernel",
    "dataloader_num_workers=-1": "at least 0 and at most 256",
    "dataloader_num_workers=1_000_000": "at least 0 and at most 256",
    "lr_scheduler_type=reduce_lr_on_plateau": "each language has a loss of its own",
    "lr_scheduler_type=greedy": "each language has a loss of its own",
    "lr_scheduler_type=cosin": "did you mean 'cosine'?",
    "max_grad_norm=.nan": "at least 0 and at most 1,000,000,000 (given: nan)",
    "learning_rate=1e30": "at least 0 and at most 100 (given: 1e+30)",
    "adam_beta1=2": "at least 0 and below 1 (given: 2)",
    "adam_beta2=1": "at least 0 and below 1 (given: 1)",
    "warmup_ratio=0.1": "no such name",
    "eval_steps=2.5": "from 1 on a whole number",
    "optim=adamw_bnb_8bit": "bitsandbytes",
    "optim=galore_adamw": "the Trainer refuses these settings",
    "optim=no_such": "the Trainer refuses these settings",
    "optim_args=what": "the Trainer refuses these settings",
    "report_to=wandb": "wandb",
    "lr_scheduler_kwargs={num_cycles: many}": "the Trainer refuses these settings",
    "gradient_checkpointing_kwargs={reentrant: true}": "did you mean 'use_reentrant'?",
    "gradient_checkpointing_kwargs=file.json": "give a mapping",
    "dataloader_persistent_workers=true": "num_workers > 0",
    "dataloader_prefetch_factor=2": "dataloader_num_workers > 0",
    "dataloader_multiprocessing_context=thread": "allowed: fork, spawn, forkserver",
    "train_sampling_strategy=group_by_length": "allowed: random, sequential",
    "torch_compile_mode=fast": "allowed: default, reduce-overhead",
    "save_strategy=best": "each language has a loss of its own",
    "logging_nan_inf_filter=true": "a loss that is no number ends training",
    "accelerator_config={even_batches: false}": "not yours to set",
    "log_level=loud": "allowed: debug, info",
}


@pytest.mark.parametrize(("setting", "message"), REFUSED.items(), ids=REFUSED)
def test_a_setting_that_cannot_work_is_one_problem_at_load(refused, setting, message) -> None:
    assert message in refused(setting)


@pytest.mark.skipif(not ON_CPU, reason="there is a GPU")
@pytest.mark.parametrize("name", ["fp16", "tf32"])
def test_a_device_that_is_not_here_is_a_problem_of_a_run_and_none_of_a_dry_run(recipe, name) -> None:
    found = problems(recipe, [f"training.{name}=true"])
    assert len(found) == 1
    assert f"training.{name}: " in found[0]
    assert "GPU" in found[0]
    assert problems(recipe, [f"training.{name}=true"], runs_here=False) == []


@pytest.mark.parametrize(
    "asked", ["torch_compile=true", "torch_compile_mode=default", "torch_compile_backend=inductor"]
)
def test_a_compiler_that_is_not_here_is_a_problem_of_a_run(recipe, monkeypatch, asked) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert problems(recipe, [f"training.{asked}"]) == [
        f"training.{asked.partition('=')[0]}: needs a C++ compiler; there is no no-such-compiler (CXX names another)"
    ]
    assert problems(recipe, [f"training.{asked}"], runs_here=False) == []
    assert problems(recipe, ["training.torch_compile=true", "training.torch_compile_backend=eager"]) == []


@pytest.mark.skipif(not ON_CPU, reason="there is a GPU")
def test_bf16_on_a_cpu_needs_no_other_setting(recipe, tmp_path) -> None:
    assert problems(recipe, ["training.bf16=true"]) == []
    assert training_arguments({"bf16": True}, tmp_path, 0).bf16


def test_a_wrong_setting_hides_no_missing_package(recipe) -> None:
    found = problems(recipe, ["training.adam_beta1=2", "training.optim=adamw_bnb_8bit", "training.foo=1"])
    assert len(found) == 3


def test_defaults_follow_the_rules() -> None:
    for name, value in DEFAULT_ARGUMENTS.items():
        assert name not in RANGES or RANGES[name].problem(value) is None
        assert math.isfinite(value) if isinstance(value, float) else True
