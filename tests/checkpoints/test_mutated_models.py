"""Whatever is wrong with a model's files, the answer is a result or one clear message: never a traceback."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import lingraft
from checkpoints.mutations import mutate
from lingraft.checkpoints.check import check_model
from lingraft.checkpoints.document_marks import document_marks
from lingraft.checkpoints.read import read_config
from lingraft.errors import UserError
from lingraft.evaluation.bits_per_byte import BitsPerByte
from lingraft.evaluation.measure import measure
from lingraft.pipeline.check import check_models_here
from lingraft.pipeline.plan import whole_plan
from lingraft.recipe import load_recipe

pytestmark = pytest.mark.integration

SECONDS = 20
"""For one call; on an idle machine each takes less than one."""
KINDS = ("whole", "shards", "adapter", "gemma3")


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("originals")


@pytest.fixture
def models(originals, make_model, tokenizer) -> Path:
    """A base, and of each kind a model that is to be damaged."""
    if (originals / "base").exists():
        return originals
    for name, architecture in {"base": "llama", "whole": "llama", "shards": "llama", "gemma3": "gemma3"}.items():
        model = make_model(architecture, rms_norm_eps=1e-5)
        model.to(torch.bfloat16).save_pretrained(originals / name, max_shard_size="60KB" if name == "shards" else "1GB")
        tokenizer.save_pretrained(originals / name)
        (originals / name / "lingraft.json").write_text('{"base": {"name": "base", "fingerprint": "0123"}}')
    wrapped = get_peft_model(
        AutoModelForCausalLM.from_pretrained(originals / "base"),
        LoraConfig(r=2, target_modules=["q_proj", "up_proj"], alpha_pattern={"q_proj": 4}),
    )
    wrapped.peft_config["default"].base_model_name_or_path = str(originals / "base")
    wrapped.save_pretrained(originals / "adapter")
    return originals


def calls(folder: Path, base: Path, recipe: dict[str, object], out: Path) -> dict[str, Callable[[], object]]:
    """What reads a model, by name."""

    def plan() -> None:
        resolved = load_recipe({**recipe, "base": str(folder)})
        check_models_here(resolved)
        whole_plan(resolved)

    merges = {
        "vectors": lambda: lingraft.merge.vectors(base, {folder: 0.5}, out, force=True),
        "soup": lambda: lingraft.merge.soup([folder], out),
    }
    if (folder / "adapter_config.json").exists():
        return merges
    return {
        "config": lambda: read_config(folder),
        "check": lambda: check_model(folder),
        "measure": lambda: measure(folder, [BitsPerByte({"swh_Latn": ["maji na moto"]})], 32, document_marks(folder)),
        "plan": plan,
        **merges,
    }


def attack(seed: int, models: Path, recipe: dict[str, object], work: Path) -> list[str]:
    """Damage a copy of a model by seed and read it in every way; returns what broke."""
    draw = random.Random(seed)
    folder, broken = work / "model", []
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(models / draw.choice(KINDS), folder)
    done = mutate(folder, draw)
    for name, call in calls(folder, models / "base", recipe, work / "out").items():
        shutil.rmtree(work / "out", ignore_errors=True)
        started = time.monotonic()
        try:
            call()
        except UserError as error:
            if not str(error).strip():
                broken.append(f"seed {seed}, {done}: {name} says nothing")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            broken.append(f"seed {seed}, {done}: {name} raised {type(error).__name__}: {str(error)[:200]}")
        if time.monotonic() - started > SECONDS:
            broken.append(f"seed {seed}, {done}: {name} took {time.monotonic() - started:.0f} s")
    return broken


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_a_damaged_model_is_read_or_refused_by_every_command(models, recipe, tmp_path, first) -> None:
    broken = [line for seed in range(first, first + 10) for line in attack(seed, models, recipe, tmp_path)]
    assert not broken, "\n".join(broken)
