"""Questions with choices, and instructions with answers: JSON Lines whose records and bytes are mutated."""

from __future__ import annotations

import json
import random
from pathlib import Path

from robustness.mutate import as_json, damaged, mutated


def questions(draw: random.Random, folder: Path) -> list[str]:
    _mutate(draw, folder / "questions.jsonl")
    text = "eng_Latn=few-eng_Latn.jsonl"
    return ["evaluate", "base", "--text", text, "--task", "cloze:eng_Latn=questions.jsonl", "--out", "out.json"]


def instructions(draw: random.Random, folder: Path) -> list[str]:
    _mutate(draw, folder / draw.choice(("instructions.jsonl", "messages.jsonl")))
    return ["run", "instruct.yaml", "training.max_steps=1", "--out", "out"]


def _mutate(draw: random.Random, path: Path) -> None:
    lines = path.read_text().splitlines()
    for place in draw.sample(range(len(lines)), k=draw.choice((1, 2, len(lines)))):
        lines[place] = as_json(mutated(draw, json.loads(lines[place])))
    data = "".join(f"{line}\n" for line in lines).encode(errors="surrogatepass")
    path.write_bytes(damaged(draw, data) if draw.random() < 0.3 else data)
