"""Files of text, of every format: other bytes, other records, other names; nothing at all, or no end."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from robustness.mutate import as_json, damaged, mutated

LANGUAGE = "swh_Latn"


def corpora(draw: random.Random, folder: Path) -> list[str]:
    suffix = draw.choice(list(FORMATS))
    path = folder / f"{LANGUAGE}-mutated{suffix}"
    data = FORMATS[suffix](_lines(draw, folder))
    path.write_bytes(damaged(draw, data) if draw.random() < 0.6 else data)
    if draw.random() < 0.1:
        path = path.rename(folder / f"{LANGUAGE}-mutated{draw.choice([*FORMATS, '', '.csv', '.gz', '.JSONL'])}")
    return draw.choice(COMMANDS)(path.name)


def _lines(draw: random.Random, folder: Path) -> bytes:
    """A few documents; of some the records are mutated."""
    lines = (folder / f"{LANGUAGE}.jsonl").read_text().splitlines()[: draw.choice((1, 3, 12, 40))]
    if draw.random() < 0.5:
        some = draw.randrange(1, len(lines) + 1)
        lines[:some] = [as_json(mutated(draw, json.loads(line))) for line in lines[:some]]
    return "".join(f"{line}\n" for line in lines).encode()


def _parquet(lines: bytes) -> bytes:
    texts = [line.decode(errors="replace") for line in lines.splitlines()]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"text": texts}), sink)
    return bytes(sink.getvalue().to_pybytes())


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    ".jsonl": bytes,
    ".txt": bytes,
    ".jsonl.gz": gzip.compress,
    ".jsonl.zst": lambda lines: pa.compress(lines, codec="zstd", asbytes=True),
    ".parquet": _parquet,
    ".json": lambda lines: b"[" + b",".join(lines.splitlines()) + b"]",
}

RECIPE = ["run", "plain.yaml", "training.max_steps=1", "--out", "out"]
COMMANDS: list[Callable[[str], list[str]]] = [
    *[lambda name: ["tokenizer", "fertility", "base", "--text", f"{LANGUAGE}={name}", "--out", "out.json"]] * 8,
    *[lambda name: ["tokenizer", "extend", "base", "--text", name, "--tokens", "4", "--out", "out"]] * 4,
    *[lambda name: [*RECIPE, f"corpus.0.files={name}", "--dry-run"]] * 2,
    lambda name: ["evaluate", "base", "--text", f"{LANGUAGE}={name}", "--out", "out.json"],
    lambda name: [*RECIPE, f"corpus.0.files={name}"],
    lambda name: [*RECIPE, f"evaluation.text.eng_Latn={name}"],
]
