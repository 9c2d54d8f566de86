"""What a report is drawn from: the records of a run, of a measurement, of tokenizers."""

from __future__ import annotations

import json
import random
from pathlib import Path

from robustness.mutate import as_json, damaged, mutated

RECORDS = ("run/results.json", "run/training.json", "run/lingraft.json", "measured.json", "fertility.json")


def reports(draw: random.Random, folder: Path) -> list[str]:
    for name in draw.sample(RECORDS, k=draw.choice((1, 1, 2))):
        path = folder / name
        text = as_json(mutated(draw, json.loads(path.read_bytes()))).encode(errors="surrogatepass")
        path.write_bytes(damaged(draw, text) if draw.random() < 0.15 else text)
    shown = draw.sample(("run", "run/results.json", "measured.json", "fertility.json"), k=draw.randint(1, 3))
    return ["report", *shown, "--out", "page.html"]
