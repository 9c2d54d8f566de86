"""Persian on a small base by stages: does it pay to align new words on pairs before the layers are adapted?

    python benchmarks/stages.py BASE CORPORA FOLDER [--seeds 3] [NAME …]

BASE is a model folder, CORPORA a folder of `<language>.<source>.jsonl.gz`, and of pairs,
`parallel.eng-pes.<source>.jsonl.gz`. Bits per byte of Persian (documents held out of the corpus) and English
(children's stories) after each stage. FOLDER keeps the runs, and `report.html` with those of the first seed; started
again, it goes on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lingraft
from lingraft.corpus.read import write_texts
from real_text import stories

NEW, OLD = "pes_Arab", "eng_Latn"
WORDS = {"new_tokens": 2000, "init": "subtoken-mean"}
ALIGNED, ADAPTED = 150_000, 350_000
"""Tokens of the two stages."""
LITTLE = 40_000
"""Tokens where text in the new language is scarce."""
TRAINING = {
    "learning_rate": 5e-4,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 16,
    "eval_steps": 0.5,
    "save_steps": 0.5,
    "logging_steps": 50,
}
LORA = {"name": "lora", "alpha": 32, "embeddings": True}
"""The paper's second stage: rank 8, alpha 32, embeddings and head in full (arXiv 2412.13375)."""


def stages(corpora: Path) -> dict[str, dict[str, Any]]:
    """What tells the runs apart: `vocabulary` and `stages`."""

    def text(tokens: int) -> dict[str, Any]:
        files = str(corpora / f"{NEW}.udperdt.jsonl.gz")
        return {"language": NEW, "files": files, "tokens": tokens}

    files = [str(corpora / f"parallel.eng-pes.{source}.jsonl.gz") for source in ("quran", "gnomehelp")]
    pairs = {"parallel": {OLD: "eng", NEW: "pes"}, "files": files, "tokens": ALIGNED}
    words = {"vocabulary": WORDS}

    def stage(method: Mapping[str, Any], *corpus: Mapping[str, Any]) -> dict[str, Any]:
        return {"corpus": list(corpus), "method": dict(method), "training": TRAINING}

    align, both = stage({"name": "embeddings"}, pairs), ALIGNED + ADAPTED
    return {
        "align, adapt": {**words, "stages": {"align": align, "adapt": stage(LORA, text(ADAPTED))}},
        "embeddings on text, adapt": {
            **words,
            "stages": {"embed": stage({"name": "embeddings"}, text(ALIGNED)), "adapt": stage(LORA, text(ADAPTED))},
        },
        "adapt alone": {**words, "stages": {"adapt": stage(LORA, text(ADAPTED))}},
        "adapt at once": {**words, "stages": {"adapt": stage(LORA, text(both))}},
        "adapt at once, pairs too": {**words, "stages": {"adapt": stage(LORA, pairs, text(ADAPTED))}},
        "adapt at once, no new words": {"stages": {"adapt": stage(LORA, text(both))}},
        "little text: align, adapt": {**words, "stages": {"align": align, "adapt": stage(LORA, text(LITTLE))}},
        "little text: adapt alone": {**words, "stages": {"adapt": stage(LORA, text(LITTLE))}},
        "little text: adapt at once, pairs too": {**words, "stages": {"adapt": stage(LORA, pairs, text(LITTLE))}},
    }


def recipe(base: Path, measured: Path, own: Mapping[str, Any], seed: int) -> dict[str, Any]:
    return {
        "base": str(base),
        "languages": {"learn": [NEW], "retain": [OLD]},
        "validation": {"max_tokens": 60_000, "blocks": 16},
        **own,
        "evaluation": {"text": {OLD: str(measured)}, "num_samples": 1},
        "seed": seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="of the runs; all of them where none is given")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    runs = stages(given.corpora)
    names = given.names or list(runs)
    measured = given.folder / f"{OLD}.jsonl"
    measured.parent.mkdir(parents=True, exist_ok=True)
    write_texts(measured, stories(given.corpora, OLD))
    for seed in range(given.seeds):
        for name in names:
            out = given.folder / f"seed-{seed}" / name
            results = lingraft.run(recipe(given.base, measured, runs[name], seed), out)
            base = {code: of["bits_per_byte"]["before"] for code, of in results["languages"].items()}
            print(f"seed {seed}  {name}", flush=True)
            for step in [{"name": "base", "languages": base}, *results["steps"]]:
                bits = "  ".join(f"{code} {of:.3f}" for code, of in step["languages"].items())
                print(f"  {step['name']:10} {bits}", flush=True)
    lingraft.report([given.folder / "seed-0" / name for name in names], given.folder / "report.html")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lingraft").setLevel(logging.INFO)
    main()
