"""Rows for new words: what each init gives before training and after a short one, on Persian and a small base.

    python benchmarks/new_words.py BASE CORPORA FOLDER [--steps 200] [--seeds 3] [INIT …]

BASE is a model folder, CORPORA a folder of `<language>.<source>.jsonl.gz`. 2,000 tokens are learned on Persian prose,
scripture and software help; LoRA with embeddings and head trains on the prose. Bits per byte of children's stories in
Persian and English, which are in none of these. FOLDER keeps models and runs; started again, it goes on.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import lingraft
from lingraft.corpus.read import write_texts
from lingraft.vocabulary import INITS
from real_text import stories

NEW, OLD = "pes_Arab", "eng_Latn"
SOURCES = ("udperdt", "quran", "gnomehelp")
TOKENS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("inits", nargs="*", help=f"of {', '.join(INITS)}; all of them where none is given")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    measured = {code: given.folder / f"{code}.jsonl" for code in (NEW, OLD)}
    for code, path in measured.items():
        write_texts(path, stories(given.corpora, code))
    text = [str(given.corpora / f"{NEW}.{source}.jsonl.gz") for source in SOURCES]
    for init in given.inits or INITS:
        extended = lingraft.tokenizer.extend(given.base, text, TOKENS, given.folder / init, init=init)
        for seed in range(given.seeds):
            recipe = {
                "base": str(extended),
                "languages": {"learn": [NEW], "retain": [OLD]},
                "corpus": [{"language": NEW, "files": text[0]}],
                "validation": {"max_tokens": 20_000, "blocks": 8},
                "method": {"name": "lora", "embeddings": True},
                "training": {
                    "learning_rate": 5e-4,
                    "per_device_train_batch_size": 4,
                    "max_steps": given.steps,
                    "eval_strategy": "no",
                    "save_steps": 0.5,
                },
                "evaluation": {"text": {code: str(path) for code, path in measured.items()}, "num_samples": 0},
                "seed": seed,
            }
            results = lingraft.run(recipe, given.folder / f"{init}-{given.steps}-{seed}")
            bits = {code: of["bits_per_byte"] for code, of in results["languages"].items()}
            shown = "  ".join(f"{code} {of['before']:.4f} -> {of['after']:.4f}" for code, of in bits.items())
            print(f"{init:12} seed {seed}  {shown}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lingraft").setLevel(logging.INFO)
    main()
