"""Does a model run everywhere that people run models? Token ids and greedy continuations against plain transformers.

    python benchmarks/everywhere.py MODEL... --llama-cpp FOLDER [--lines 10000] [--prompts 100]

`FOLDER` is a checkout of llama.cpp, with its converter; the source distribution of llama-cpp-python carries one:

    pip download llama-cpp-python --no-deps --no-binary :all: && tar xzf llama_cpp_python-*.tar.gz
    pip install gguf xllamacpp          # the converter's library, and a runtime that is built already

For each model: `transformers` loads it in float32; the unpatched converter makes a GGUF file of it; llama.cpp must give
the same token ids for odd lines, and the same greedy continuations of prompts. Where a continuation differs, the first
differing token must be a tie: within 1e-3 of the best logit.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TIE = 1e-3
"""Difference of two logits that float32 in another order of sums may turn around."""
NEW_TOKENS = 32
ODD = [
    "", " ", "  ", "\n\n", "\t", "a\u0301", "á", "ﬁ", "№", "e\u200bf", "\u202eabc", "👩‍👩‍👧‍👦", "🇺🇬", "नमस्ते", "ສະບາຍດີ",
    "مرحبا بالعالم", "東京都", "Ọjọ́ dára", "ng'ombe", "it's", "IT'S", "1234567890", "3.14159", "x==y!=z", "</s>",
    "<bos>", "<|endoftext|>", "<|im_end|>", "http://a.b/c?d=e&f", "ÀÉÎÕÜ", "ßſ", "\u00a0nbsp", "a\r\nb", "¡¿", "—–-",
    "…", "﷽",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--prompts", type=int, default=100)
    options = parser.parse_args()
    print("| model | GGUF, unpatched converter | token ids equal | greedy continuations equal |")
    print("|---|---|---|---|")
    for model in options.models:
        cells = compare(model, options.llama_cpp, options.lines, options.prompts)
        print(f"| {model.name} | {' | '.join(cells)} |", flush=True)


def compare(model: Path, llama_cpp: Path, lines: int, prompts: int) -> list[str]:
    """The cells of one model's row."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.gguf"
        problem = convert(model, llama_cpp, file)
        if problem:
            return [problem, "not run", "not run"]
        tokenizer = AutoTokenizer.from_pretrained(model)
        plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        with server(file) as ask:
            return ["converts", same_ids(tokenizer, ask, lines), same_continuations(plain, tokenizer, ask, prompts)]


def convert(model: Path, llama_cpp: Path, out: Path) -> str | None:
    """Make a float32 GGUF file; returns what the converter said where it refused."""
    arguments = [sys.executable, llama_cpp / "convert_hf_to_gguf.py", model, "--outfile", out, "--outtype", "f32"]
    ended = subprocess.run([*map(str, arguments)], capture_output=True, text=True, check=False)
    return None if ended.returncode == 0 else f"refused: {ended.stderr.strip().splitlines()[-1][:120]}"


@contextmanager
def server(file: Path) -> Iterator[Any]:
    """A llama.cpp server of the model; yields a function that posts to a path of it."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.warmup = str(file), 1024, False
    address = (running := xllamacpp.Server(settings)).listening_address

    def ask(path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{address}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    yield ask
    del running


def odd_lines(count: int) -> list[str]:
    """Odd pieces, and random mixtures of them."""
    draw = random.Random(0)
    mixed = ["".join(draw.choices([*ODD, " ", "a", "maji", "Tokyo"], k=draw.randint(1, 8))) for _ in range(count)]
    return [*ODD, *mixed][:count]


def same_ids(tokenizer: Any, ask: Any, count: int) -> str:
    lines = odd_lines(count)
    ours = [tokenizer(line, add_special_tokens=False, split_special_tokens=True).input_ids for line in lines]
    differ = [
        line
        for line, ids in zip(lines, ours, strict=True)
        if ask("tokenize", content=line, add_special=False, parse_special=False)["tokens"] != ids
    ]
    return f"{count - len(differ):,} of {count:,}" + (f", the first other: {differ[0]!r}" if differ else "")


@torch.inference_mode()
def same_continuations(model: Any, tokenizer: Any, ask: Any, count: int) -> str:
    draw = random.Random(1)
    words = ["the", "a", "river", "mountain", "maji", "Where", "is", "you", "know", "capital", "of", "people", "why"]
    equal, ties = 0, 0
    for _ in range(count):
        ids = tokenizer(" ".join(draw.choices(words, k=draw.randint(3, 9))), add_special_tokens=False).input_ids
        given = torch.tensor([ids])
        own = model.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None
        )[0, len(ids) :].tolist()
        other = ask(
            "completion", prompt=ids, temperature=0, n_predict=NEW_TOKENS, ignore_eos=False, return_tokens=True
        )["tokens"]
        at = next((i for i, pair in enumerate(zip(own, other, strict=False)) if pair[0] != pair[1]), None)
        if at is None:
            equal += 1
            continue
        logits = model(torch.tensor([ids + own[:at]])).logits[0, -1]
        ties += bool(logits[own[at]] - logits[other[at]] < TIE)
    return f"{equal} of {count}" + (f", {ties} ties" if equal < count else "")


if __name__ == "__main__":
    main()
