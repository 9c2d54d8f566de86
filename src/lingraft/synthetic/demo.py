"""`lingraft demo`: graft an artificial language in several ways, in minutes, without a download."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from lingraft.cache import cached, is_artefact, recorded_inputs, write_text
from lingraft.disk import locked
from lingraft.errors import OutputError, UserError
from lingraft.methods.silent_adapters import SilentAdapters
from lingraft.output_paths import folder_target
from lingraft.pipeline.run import run_recipe
from lingraft.reporting.page import write_report
from lingraft.synthetic import (
    NEW,
    OLD,
    TASKS,
    cache_folder,
    code_fingerprint,
    measured_file,
    questions_file,
    trained_base,
    training_file,
    write_testbed,
)

logger = logging.getLogger(__name__)

OLD_TEXT = 0.1
"""The share of all tokens that is text of the old languages, in runs that have some (arXiv 2410.02744 §4.2)."""

RUNS: Mapping[str, Mapping[str, Any]] = {
    "full": {"method": {"name": "full"}},
    "full-l2sp": {"method": {"name": "full"}, "penalties": {"l2sp": {"first": 2, "last": 1}}},
    "freeze": {"method": {"name": "freeze", "first": 2, "last": 1}},
    "layer-selective": {"method": {"name": "layer-selective"}},
    "half": {"method": {"name": "half"}},
    "source-shielded": {"method": {"name": "source-shielded"}},
    "embeddings": {"method": {"name": "embeddings"}},
    "lora": {"method": {"name": "lora"}},
    "layra": {"method": {"name": "layra", "first": 2, "last": 1}},
    "lora-ffn": {"method": {"name": "lora-ffn"}, "old_text": OLD_TEXT},
    "adapters": {"method": {"name": "adapters"}, "old_text": OLD_TEXT},
    "neutral-residues": {"method": {"name": "neutral-residues"}, "old_text": OLD_TEXT},
    "block-expansion": {"method": {"name": "block-expansion", "blocks": 2}},
    "lora-self-generated": {"method": {"name": "lora"}, "replay": {"self_generated": 0.2}},
    "full-self-generated": {"method": {"name": "full"}, "replay": {"self_generated": 0.2}},
    "silent-adapters": {"method": {"name": "silent-adapters"}, "replay": {"self_generated": 0.2}},
}
"""The settings in which the recipes differ. Layer ranges are the papers', in proportion to six layers."""

STORY = ("full", "lora", "layra", "neutral-residues", "full-self-generated")
"""The default runs, which show the main trade-offs; the others take as long again."""

TOKENS = 100_000
TRAINING = {
    "learning_rate": 5e-4,
    "per_device_train_batch_size": 8,
    "eval_on_start": True,
    "eval_steps": 0.2,
    "save_steps": 0.5,
}
LEARNING_RATES = {
    **dict.fromkeys(("lora-ffn", "adapters", "neutral-residues", "block-expansion"), 1e-3),
    "silent-adapters": SilentAdapters.training["learning_rate"],
}
"""Of methods that add blocks: at the rate of the others they hardly learn in so few steps."""


def run_demo(
    out: Path | str = "lingraft-demo", seed: int = 0, runs: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """As `lingraft.demo`."""
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: allowed are 0 to {2**32 - 1}")
    if runs is None:
        runs = {name: RUNS[name] for name in STORY}
    out, cache = folder_target(out), cache_folder()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("the demo is for one process; start it without torchrun")
    inputs = {"seed": seed, "lingraft": version("lingraft"), "testbed": code_fingerprint()}
    _check_output(out, inputs)
    with locked(out):
        files = cached(out / "testbed", inputs, lambda folder: write_testbed(folder, seed))
        base = trained_base(files, cache, seed)
        results: dict[str, dict[str, Any]] = {}
        for name, settings in runs.items():
            recipe = out / "recipes" / f"{name}.yaml"
            write_text(recipe, recipe_text(settings, base.resolve(), files.resolve(), seed))
            logger.info("%s: lingraft run %s --out %s", name, recipe, out / name)
            results[name] = run_recipe(recipe, out / name, beside=[out / done for done in results])
        write_report([out / name for name in runs], out / "report.html")
    return results


def _check_output(out: Path, inputs: dict[str, Any]) -> None:
    """Refuse a folder that holds the demo of another world, or no demo."""
    recorded = recorded_inputs(out / "testbed")
    is_demo = is_artefact(out / "testbed")
    if not is_demo and out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise OutputError(f"--out {out} is not empty and holds no demo; give a new folder")
    if recorded and recorded != inputs:
        changed = [name for name in inputs if recorded.get(name) != inputs[name]]
        changes = ", ".join(f"{name}: {recorded.get(name)} there, {inputs[name]} here" for name in changed)
        raise OutputError(f"--out {out} holds another demo ({changes}); give a new folder, or delete this one")


def recipe_text(settings: Mapping[str, Any], base: Path, files: Path, seed: int) -> str:
    """The recipe of one run, as YAML."""
    return yaml.safe_dump(recipe_of(settings, base, files, seed), sort_keys=False, allow_unicode=True)


def recipe_of(settings: Mapping[str, Any], base: Path, files: Path, seed: int) -> dict[str, Any]:
    """The recipe of one run; it does not differ from a recipe for natural languages."""
    codes = [NEW, *OLD]
    own, old_text = with_old_text(settings, {code: str(training_file(files, code)) for code in OLD})
    learned = {"language": NEW, "files": str(training_file(files, NEW)), "tokens": TOKENS}
    rate = LEARNING_RATES.get(own["method"]["name"], TRAINING["learning_rate"])
    return {
        "base": str(base),
        "languages": {"learn": [NEW], "retain": list(OLD)},
        "corpus": [learned, *old_text],
        **own,
        "training": {**TRAINING, "learning_rate": rate, **own.get("training", {})},
        "evaluation": {
            "text": {code: str(measured_file(files, code)) for code in codes},
            "tasks": {task: {code: str(questions_file(files, task, code)) for code in codes} for task in TASKS},
        },
        "seed": seed,
    }


def with_old_text(settings: Mapping[str, Any], files: Mapping[str, str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Split settings of `RUNS` into recipe keys, and the corpus entries for `old_text`.

    `old_text` is a share of all tokens; the languages of `files` have equal parts of it.
    """
    keys = dict(settings)
    share = keys.pop("old_text", 0) / len(files)
    return keys, [{"language": code, "files": paths, "share": share} for code, paths in files.items() if share]
