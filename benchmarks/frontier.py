"""What each method learns and forgets, at the best of four learning rates, on one base and one language.

    python benchmarks/frontier.py FOLDER --retain CODE=FILES… [--base MODEL --learn CODE=FILES…] [--tokens 100000]
        [--names NAME…] [--rates RATE…] [--seeds 3] [--bf16] [--settings KEY=VALUE…]

Without `--base` and `--learn` they are those of the first tutorial: SmolLM2-135M-Instruct and Chichewa. Text of
`--retain` is measured, and never trains. `default` is what `lingraft init` writes; the other runs are that recipe with
what RUNS says, and the settings of the command line. FOLDER keeps the runs, and `report.html` with those of the best
rates; started again, it goes on. The best rate is that of seed 0 with which the new language is learned best.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lingraft
from lingraft.checkpoints.read import read_config
from lingraft.evaluation import COPYING
from lingraft.layer_groups import depth
from lingraft.tutorial import chichewa, smollm2

ALL = (1e-4, 3e-4, 1e-3, 3e-3)
FEW = (3e-4, 1e-3, 3e-3, 1e-2)
"""Rates where few weights train, or new ones."""
MUON = (5e-4, 1.5e-3, 5e-3, 1.5e-2)
BY_MUON = ("training.optim=muon", "training.embedding_learning_rate=1e-3")


class Run(NamedTuple):
    """Learning rates that are tried, and what differs from the recipe of `lingraft init`, as on the command line."""

    rates: Sequence[float]
    settings: Sequence[str] = ()


def near(method: str, rates: Sequence[float], *settings: str) -> Run:
    """A method held near to the base by the recipe's self-generated replay."""
    return Run(rates, [f"method={method}", *settings])


def alone(method: str, rates: Sequence[float], *settings: str) -> Run:
    """A method that sees new text only."""
    return near(method, rates, "replay=null", *settings)


RUNS: Mapping[str, Run] = {
    "default": Run(MUON),
    "default-with-new-tokens": Run(MUON, ["vocabulary={new_tokens: 1000}"]),
    "silent-adapters": near("{name: silent-adapters}", MUON),
    "full": alone("{name: full}", ALL),
    "full-muon": alone("{name: full}", MUON, *BY_MUON),
    "full-self-generated": near("{name: full}", ALL),
    "full-muon-self-generated": near("{name: full}", MUON, *BY_MUON),
    "full-ewc": alone("{name: full}", ALL, "penalties={ewc: {weight: 100}}"),
    "full-l2sp": alone("{name: full}", ALL, "penalties={l2sp: {first: FIRST, last: LAST}}"),
    "full-ema": alone("{name: full}", ALL, "averaging={ema: 0.99}"),
    "full-pull": alone("{name: full}", ALL, "averaging={pull: {every: 0.1, beta: 0.3}}"),
    "layer-selective": alone("{name: layer-selective}", ALL),
    "freeze": alone("{name: freeze, first: FIRST, last: LAST}", ALL),
    "embeddings": alone("{name: embeddings}", ALL),
    "half": alone("{name: half}", ALL),
    "source-shielded": alone("{name: source-shielded}", ALL),
    "lora": alone("{name: lora}", FEW),
    "lora-protected": alone("{name: lora, protected: 16}", FEW),
    "lora-null-space": alone("{name: lora, init: null-space}", FEW),
    "lora-self-generated": near("{name: lora}", FEW),
    "layra": alone("{name: layra, first: FIRST, last: LAST}", FEW),
    "lora-ffn": alone("{name: lora-ffn}", FEW),
    "adapters": near("{name: adapters}", FEW),
    "neutral-residues": near("{name: neutral-residues}", FEW),
    "block-expansion": alone("{name: block-expansion, blocks: COPIES}", FEW),
    "block-expansion-self-generated": near("{name: block-expansion, blocks: COPIES}", FEW),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base")
    parser.add_argument("--learn", help="CODE=FILES")
    parser.add_argument("--retain", nargs="+", required=True, help="CODE=FILES of each language")
    parser.add_argument("--names", nargs="+", default=list(RUNS), choices=RUNS)
    parser.add_argument("--rates", nargs="+", type=float, help="in place of the four of each run")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--settings", nargs="+", default=[], help="of all runs, as on the command line of a run")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    base = given.base or str(smollm2(given.folder / "smollm2"))
    learn = files_of([given.learn or f"nya_Latn={chichewa(given.folder / 'chichewa.jsonl')}"])
    recipe = given.folder / "recipe.yaml"
    if not recipe.exists():
        lingraft.init(base, list(learn), files_of(given.retain), out=recipe, text=learn)
    layers = depth(read_config(Path(base)))
    for_all = [f"corpus.0.tokens={given.tokens}", f"training.bf16={str(given.bf16).lower()}", "training.eval_steps=0.5"]
    best: dict[str, float] = {}
    for seed in range(given.seeds):
        done: list[Path] = []
        for name in given.names:
            learned: dict[float, float] = {}
            for rate in [best[name]] if name in best else given.rates or RUNS[name].rates:
                out = folder_of(given.folder, name, rate, seed)
                if done and not out.exists():
                    share_generated(done[0], out)
                own = [of_depth(setting, layers) for setting in RUNS[name].settings]
                own += [f"training.learning_rate={rate:g}", f"seed={seed}"]
                began = time.monotonic()
                results = lingraft.run(recipe, out, [*for_all, *own, *given.settings], beside=done)
                done.append(out)
                learned[rate] = results["learning"]
                print(row(out.name, results, time.monotonic() - began), flush=True)
            best.setdefault(name, max(learned, key=lambda rate: learned[rate]))
    shown = [folder_of(given.folder, name, rate, 0) for name, rate in best.items()]
    lingraft.report(shown, given.folder / "report.html")


def share_generated(done: Path, out: Path) -> None:
    """Give a run what another one let the base generate; it takes what it would have generated itself."""
    for name in ("work/chat", "work/self-generated"):
        if (done / name).exists():
            shutil.copytree(done / name, out / name)
    shutil.copy(done / "recipe.resolved.yaml", out)


def folder_of(folder: Path, name: str, rate: float, seed: int) -> Path:
    return folder / f"{name}@{rate:g}{f'-seed-{seed}' if seed else ''}"


def files_of(given: Sequence[str]) -> dict[str, list[str]]:
    """CODE=FILE,FILE… -> the files of each language."""
    return {code: files.split(",") for code, files in (each.split("=", 1) for each in given)}


def of_depth(setting: str, layers: int) -> str:
    """Layers in the proportion of LayRA's paper, and a copy for each four layers, as in LLaMA Pro's."""
    first, last, copies = (max(1, round(layers * share)) for share in (10 / 32, 2 / 32, 1 / 4))
    return setting.replace("FIRST", str(first)).replace("LAST", str(last)).replace("COPIES", str(copies))


def row(name: str, results: Mapping[str, Any], seconds: float) -> str:
    """A line of the table: changes of bits per byte, and in-context copying of the languages; of a chat model answers
    that begin as the base's, their chrF, and known ones that are right.
    """
    chat, languages, copying = results.get("chat"), results["languages"], results["tasks"][COPYING]["languages"]
    measured = [languages[code]["bits_per_byte"] for code in languages] + ([chat["bits_per_byte"]] if chat else [])
    cells = [f"{100 * change['delta'] / change['before']:+.2f} %" for change in measured]
    cells += [
        f"{100 * of['accuracy']['before']:.1f} to {100 * of['accuracy']['after']:.1f} %" for of in copying.values()
    ]
    if chat:
        cells += [f"{100 * chat['same_beginning']:.0f} %", f"{chat['chrf']:.2f}", f"{chat['right']['after']}"]
    return f"| {name} | {' | '.join(cells)} | {seconds / 60:.1f} min |"


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("lingraft").setLevel(logging.INFO)
    main()
