"""Merging checkpoints: lingraft against mergekit and a plain copy, in time, memory and accuracy.

    python benchmarks/merge.py [--gigabytes 1.2] [--runs 5] [--folder F] [--no-speed] [--no-growth] [--accuracy]

Every command is a process of its own, timed with its imports, in turn within a round; the parents are
in the page cache. `s` is until it ends, `on disk` until what it wrote is on the disk: lingraft waits
for that itself, mergekit and `cp` do not. `peak` is the largest resident set in the kernel's account
of the process; files that it maps are in it, as mergekit maps its parents, and files that it reads
are not, as lingraft does. `own` leaves files out: the largest anonymous memory, seen every 20 ms.
mergekit, whose names of the methods are task_arithmetic and linear, has the settings that were its
fastest here: bfloat16, no tokenizer, model card or progress bars (`--async-write`, small shards,
`-j 2` and `--lazy-unpickle` made it no faster).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread, Timer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # the kernel counts this process's memory in a child's peak, so it stays small
    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[np.float64]]

BASE, FIRST, SECOND = "base", "first", "second"
HAS_MERGEKIT = find_spec("mergekit") is not None
MERGEKIT_OPTIONS = ("--no-copy-tokenizer", "--no-write-model-card", "--quiet")
MIB, TIMEOUT = 2**20, 900.0


@dataclass(frozen=True)
class Merge:
    """One merge, as both tools call it."""

    ours: str
    theirs: str
    weights: Mapping[str, float]
    density: float = 1.0

    def lingraft(self, folder: Path, *options: str) -> list[str]:
        base = [] if self.ours == "soup" else ["--base", f"{folder / BASE}"]
        density = ["--density", f"{self.density}"] if self.ours == "ties" else []
        models = [f"{folder / name}:{weight}" for name, weight in self.weights.items()]
        out = ["--out", f"{folder / 'out'}"]
        return [sys.executable, "-m", "lingraft", "merge", self.ours, *base, *models, *out, *density, *options]

    def mergekit(self, folder: Path, **dtypes: str) -> list[str]:
        base = {} if self.theirs == "linear" else {"base_model": f"{folder / BASE}"}
        density = {"density": self.density} if self.theirs == "ties" else {}
        models = [
            {"model": f"{folder / name}", "parameters": {"weight": weight, **density}}
            for name, weight in self.weights.items()
        ]
        config = folder / f"{self} {' '.join(dtypes.values())}.yml"
        config.write_text(json.dumps({"merge_method": self.theirs, **base, **dtypes, "models": models}))
        program = [sys.executable, "-m", "mergekit.scripts.run_yaml"]
        return [*program, f"{config}", f"{folder / 'out'}", *MERGEKIT_OPTIONS]

    def __str__(self) -> str:
        density = f" density {self.density}" if self.ours == "ties" else ""
        return f"{self.ours} {' '.join(map(str, self.weights.values()))}{density}"


HALVES = Merge("vectors", "task_arithmetic", {FIRST: 0.5, SECOND: 0.5})  # of its base lingraft reads nothing
VECTORS = Merge("vectors", "task_arithmetic", {FIRST: 0.5, SECOND: 0.3})
SOUP = Merge("soup", "linear", {BASE: 0.3, FIRST: 0.3, SECOND: 0.4})
TIES = [Merge("ties", "ties", {FIRST: 0.6, SECOND: 0.4}, density) for density in (0.5, 0.2)]


def make(folder: Path, num_bytes: float, noise: float, dtype: str = "bfloat16") -> None:
    """A Llama of about that size, and two that are it and some noise. All tensors grow with the size."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    heads = round((num_bytes / torch.get_default_dtype().itemsize / 130) ** 0.5 / 64)
    sizes = {"vocab_size": 1024 * heads, "hidden_size": 64 * heads, "intermediate_size": 176 * heads}
    config = LlamaConfig(num_hidden_layers=8, num_attention_heads=heads, dtype=dtype, **sizes)
    model = LlamaForCausalLM(config).requires_grad_(requires_grad=False)
    model.save_pretrained(folder / BASE)
    base = [weights.clone() for weights in model.parameters()]
    for name in (FIRST, SECOND):
        for weights, start in zip(model.parameters(), base, strict=True):
            weights.normal_(std=noise).add_(start)
        model.save_pretrained(folder / name)


def apart(target: Callable[..., None], *args: Any) -> None:
    """Call a function in a process of its own."""
    process = get_context("spawn").Process(target=target, args=args)
    process.start()
    process.join(TIMEOUT)
    process.kill()
    if process.exitcode:
        sys.exit(f"{target.__name__} failed")


class Usage(NamedTuple):
    """What a command took: seconds and bytes."""

    seconds: float
    on_disk: float
    peak: int
    own: int


def measure(command: list[str], out: Path) -> Usage:
    """Run a command that writes `out`."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    with out.with_suffix(".log").open("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        own = [0]
        watch, killer = Thread(target=lambda: own.extend(anonymous(process.pid))), Timer(TIMEOUT, process.kill)
        watch.start()
        killer.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        os.sync()
        on_disk = time.perf_counter() - started
        killer.cancel()
        watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{log.read()[-2000:]}")
    return Usage(seconds, on_disk, used.ru_maxrss * 1024, max(own))


def anonymous(pid: int) -> Iterator[int]:
    """Bytes of a process's memory that are no file's, every 20 ms until it ends."""
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        yield from (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))
        time.sleep(0.02)


def speed(folder: Path, gigabytes: float, runs: int) -> None:
    """Run all commands in turn and print two tables."""
    apart(make, folder, gigabytes * 1e9, 0.002)
    merges = (HALVES, VECTORS, SOUP)
    commands = {f"lingraft {merge}": merge.lingraft(folder) for merge in merges}
    if HAS_MERGEKIT:
        commands |= {f"mergekit {merge}": merge.mergekit(folder, dtype="bfloat16") for merge in merges}
    commands["cp -r"] = ["cp", "-r", f"{folder / FIRST}", f"{folder / 'out'}"]
    rounds = [{name: measure(command, folder / "out") for name, command in commands.items()} for _ in range(runs)]
    size = (folder / FIRST / "model.safetensors").stat().st_size
    print(f"\n{size / 1e9:.2f} GB a model, bfloat16: medians of {runs} rounds and their range")
    line("", "s", "s, on disk", "peak MiB", "own MiB")
    for name in commands:
        line(name, *(spread([of[name][i] / unit for of in rounds]) for i, unit in enumerate((1, 1, MIB, MIB))))
    print("\nratios within a round: medians and range")
    line("", "s", "s, on disk", "peak", "own")
    pairs = [(f"mergekit {merge}", f"lingraft {merge}") for merge in merges if HAS_MERGEKIT]
    for one, other in [*pairs, *((f"lingraft {merge}", "cp -r") for merge in merges)]:
        ratios = ([of[one][i] / of[other][i] for of in rounds] for i in range(4))
        line(f"{one} / {other.split()[0]}", *map(spread, ratios))


def growth(folder: Path, gigabytes: float) -> None:
    """Memory of one merge each at one size and at four times it; the parents may not all be in the page cache."""
    usages: dict[str, list[Usage]] = {"lingraft": [], **({"mergekit": []} if HAS_MERGEKIT else {})}
    for times in (1, 4):
        with TemporaryDirectory(dir=folder) as scratch:
            models = Path(scratch)
            apart(make, models, times * gigabytes * 1e9, 0.002)
            usages["lingraft"].append(measure(VECTORS.lingraft(models), models / "out"))
            if HAS_MERGEKIT:
                usages["mergekit"].append(measure(VECTORS.mergekit(models, dtype="bfloat16"), models / "out"))
    print(f"\n{VECTORS}, {gigabytes:g} and {4 * gigabytes:g} GB a model, one run each")
    line("", "peak MiB", "", "own MiB", "")
    for tool, (small, large) in usages.items():
        pairs = ((small.peak, large.peak), (small.own, large.own))
        cells = ((f"{one / MIB:.1f} to {four / MIB:.1f}", f"x {four / one:.3f}") for one, four in pairs)
        line(tool, *(cell for pair in cells for cell in pair))


def accuracy(folder: Path) -> None:
    """Both tools against float64, on small models whose noise is half of what their weights spread."""
    for dtype, itemsize in (("bfloat16", 2), ("float32", 4)):
        models = folder / dtype
        make(models, 20e6 * itemsize, 0.01, dtype)
        parents = {name: read(models / name) for name in (BASE, FIRST, SECOND)}
        for merge in TIES if dtype == "float32" else (SOUP, VECTORS, *TIES):
            is_ties = merge.ours == "ties"
            print(f"\n{merge}: {sum(map(len, parents[BASE].values())):,} weights, {dtype}")
            line("", *(CHOICES if is_ties else ERRORS))
            out_dtype = "float32" if is_ties else dtype
            commands = {"lingraft": merge.lingraft(models, "--dtype", out_dtype)}
            for inside in (dtype, "float32") if HAS_MERGEKIT else ():
                commands[f"mergekit in {inside}"] = merge.mergekit(models, dtype=inside, out_dtype=out_dtype)
            for tool, command in commands.items():
                measure(command, models / "out")
                result, precision = read(models / "out"), 2.0 ** -(8 if "bfloat16" in tool else 24)
                line(tool, *(choices(merge, parents, result, precision) if is_ties else errors(merge, parents, result)))


def read(model: Path) -> Tensors:
    from safetensors.torch import load_file

    return {name: tensor.double().numpy().ravel() for name, tensor in load_file(model / "model.safetensors").items()}


ERRORS = ("mean, ulp", "largest, half ulps", "not the nearest", "beyond the bound")


def errors(merge: Merge, parents: Mapping[str, Tensors], result: Tensors) -> list[str]:
    """Against half an ulp, of bfloat16 at the exact value, plus 1e-6 of the terms' sizes, which is the bound.

    Mean and largest, which is without the 1e-6, are of weights that are over 1 % of their terms:
    one that cancels to nothing has no ulp to speak of.
    """
    import numpy as np

    coefficients = {BASE: 1 - sum(merge.weights.values()), **merge.weights}
    made = np.concatenate(list(result.values()))
    thetas = {name: np.concatenate([parents[name][tensor] for tensor in result]) for name in coefficients}
    terms = np.stack([coefficient * thetas[name] for name, coefficient in coefficients.items()])
    exact, size = terms.sum(axis=0), np.abs(terms).sum(axis=0)
    ulp = np.exp2(np.frexp(exact)[1] - 8.0)
    error, over = np.abs(made - exact), np.abs(made - exact) - 1e-6 * size
    solid = np.abs(exact) > 0.01 * size
    mean, largest = np.mean((error / ulp)[solid]), np.max((over / ulp * 2)[solid])
    wrong = made != np.rint(exact / ulp) * ulp
    return [f"{mean:.4f}", f"{largest:.4f}", f"{np.mean(wrong):.3%}", f"{np.sum(over > ulp / 2):,}"]


CHOICES = ("at a threshold", "in a tied vote", "too close to tell", "tied ones that differ", "others that differ")


def choices(merge: Merge, parents: Mapping[str, Tensors], result: Tensors, precision: float) -> list[str]:
    """How many weights have other vectors kept and elected than in float64, as far as the result tells.

    At a threshold are magnitudes that are equal to it where more than wanted reach it; in a tied
    vote the weighted vectors cancel. Too close are weights where another choice gives the same number.
    """
    import numpy as np

    counts = np.zeros(5, np.int64)
    weights = np.array([[merge.weights[FIRST]], [merge.weights[SECOND]]])
    for name, made in result.items():
        base = parents[BASE][name]
        vectors = np.stack([parents[FIRST][name], parents[SECOND][name]]) - base
        magnitudes = np.abs(vectors).astype(np.float32)
        rank = max(1, int(merge.density * base.size))
        thresholds = np.partition(magnitudes, -rank, axis=1)[:, -rank, None]
        kept = magnitudes >= thresholds
        votes = weights * vectors * kept
        sums = votes.sum(axis=0)
        on_threshold = ((magnitudes == thresholds) & (kept.sum(axis=1, keepdims=True) > rank)).any(axis=0)
        tied = ~on_threshold & (np.abs(sums) < 1e-6 * np.abs(votes).sum(axis=0))
        agree = (votes != 0) & ((votes > 0) == (sums >= 0))
        chosen = (agree[0] + 2 * agree[1])[None]
        possible = np.stack([0 * base, *vectors, (weights * vectors).sum(axis=0)])  # weights sum to 1
        gaps = np.abs(possible - np.take_along_axis(possible, chosen, axis=0))
        np.put_along_axis(gaps, chosen, np.inf, axis=0)
        told = gaps.min(axis=0) > 8 * precision * (np.abs(base) + np.abs(vectors).sum(axis=0))
        other = told & (np.abs(possible - (made - base)).argmin(axis=0) != chosen[0])
        tie = on_threshold | tied
        counts += [int(of.sum()) for of in (on_threshold, tied, ~told, other & tie, other & ~tie)]
    return [f"{count:,}" for count in counts]


def spread(values: Sequence[float]) -> str:
    digits = 0 if max(values) >= 100 else 2
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def line(name: str, *cells: str) -> None:
    print(f"{name:36}", *(f"{cell:>23}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.2, help="of a model")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; 17 times as many gigabytes must be free")
    parser.add_argument("--speed", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--growth", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--accuracy", action=argparse.BooleanOptionalAction, default=False)
    args = parser.parse_args()
    if not HAS_MERGEKIT:
        print("mergekit is not installed (pip install lingraft[bench]): lingraft alone")
    if args.speed:
        with TemporaryDirectory(dir=args.folder) as scratch:
            speed(Path(scratch), args.gigabytes, args.runs)
    if args.growth:
        with TemporaryDirectory(dir=args.folder) as scratch:
            growth(Path(scratch), args.gigabytes)
    if args.accuracy:
        with TemporaryDirectory(dir=args.folder) as scratch:
            apart(accuracy, Path(scratch))


if __name__ == "__main__":
    main()
