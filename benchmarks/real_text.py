"""Danish on a small real base with every method, the same number of tokens each: learning and forgetting.

    python benchmarks/real_text.py BASE CORPORA FOLDER [--seeds 3] [NAME …]

BASE is a model folder, CORPORA a folder of `<language>.<source>.jsonl.gz`. English, Spanish and French are retained and
measured on children's stories; runs with old text replay scripture, another domain. FOLDER keeps the runs, and
`report.html` with all of the first seed; started again, it goes on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lingraft
from lingraft.corpus.read import DroppedText, read_documents, write_texts
from lingraft.synthetic.demo import OLD_TEXT, with_old_text
from lingraft.synthetic.demo import RUNS as DEMO

NEW, OLD = "dan_Latn", ("eng_Latn", "spa_Latn", "fra_Latn")
TOKENS, MEASURED_BYTES = 250_000, 50_000
TRAINING = {
    "learning_rate": 5e-4,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 16,
    "eval_steps": 0.25,
    "save_steps": 0.5,
    "logging_steps": 20,
}
RUNS: Mapping[str, Mapping[str, Any]] = {
    **DEMO,
    "full-l2sp": {"method": {"name": "full"}, "penalties": {"l2sp": {"first": 3, "last": 2}}},
    "freeze": {"method": {"name": "freeze", "first": 3, "last": 2}},
    "layra": {"method": {"name": "layra", "first": 4, "last": 1}},
    "neutral-residues-sigmoid": {
        "method": {"name": "neutral-residues", "gate": "sigmoid", "loss": "ce"},
        "old_text": OLD_TEXT,
    },
    "full-old-text": {"method": {"name": "full"}, "old_text": OLD_TEXT},
    "full-revert": {"method": {"name": "full"}, "merge": [{"revert": {"first": 3, "last": 2}}]},
    "full-forget-at-most": {"method": {"name": "full"}, "merge": [{"max_forgetting": 0.02, "first": 3, "last": 2}]},
}
"""What tells the recipes apart: the demo's, with ranges of layers for twelve layers, and more."""


def stories(corpora: Path, language: str) -> Iterator[str]:
    """The first documents, up to about `MEASURED_BYTES`."""
    total = 0
    for text in read_documents([corpora / f"{language}.storybooks.jsonl.gz"], "text", DroppedText()):
        total += len(text.encode())
        yield text
        if total >= MEASURED_BYTES:
            return


def recipe(base: Path, corpora: Path, measured: Path, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    own, old_text = with_old_text(settings, {code: str(corpora / f"{code}.bible.jsonl.gz") for code in OLD})
    files = [str(corpora / f"{NEW}.{source}.jsonl.gz") for source in ("adl", "bible")]
    return {
        "base": str(base),
        "languages": {"learn": [NEW], "retain": list(OLD)},
        "corpus": [{"language": NEW, "files": files, "tokens": TOKENS}, *old_text],
        "validation": {"max_tokens": 30_000, "blocks": 16},
        **own,
        "training": TRAINING,
        "evaluation": {"text": {code: str(measured / f"{code}.jsonl") for code in OLD}, "num_samples": 1},
        "seed": seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RUNS)}; all of them where none is given")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    measured = given.folder / "measured"
    measured.mkdir(parents=True, exist_ok=True)
    for code in OLD:
        write_texts(measured / f"{code}.jsonl", stories(given.corpora, code))
    names = given.names or list(RUNS)
    for seed in range(given.seeds):
        for name in names:
            out = given.folder / f"seed-{seed}" / name
            results = lingraft.run(recipe(given.base, given.corpora, measured, RUNS[name], seed), out)
            learning, forgetting = 100 * results["learning"], 100 * results["forgetting"]
            print(f"seed {seed}  {name:26} learning {learning:5.1f} %  forgetting {forgetting:5.1f} %", flush=True)
    lingraft.report([given.folder / "seed-0" / name for name in names], given.folder / "report.html")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lingraft").setLevel(logging.INFO)
    main()
