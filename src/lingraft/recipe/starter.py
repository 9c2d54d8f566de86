"""Write a first recipe for a base and its languages, with comments where to fill in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from lingraft.cache import write_text
from lingraft.checkpoints.read import CONFIG_ONLY, find_model, read_config
from lingraft.errors import ModelError, OutputError, UserError
from lingraft.languages import code_of
from lingraft.layer_groups import depth
from lingraft.output_paths import file_target

Goal = Literal["comprehension", "translation", "balanced", "coverage"]

PAPER_DEPTH, PAPER_FIRST, PAPER_LAST = 32, 10, 2
"""LayRA's layers on Llama 3.1 8B (arXiv 2509.11414 §3.2), scaled to other depths."""


class _Choice(NamedTuple):
    method: str
    reason: str


GOALS: dict[Goal, _Choice] = {
    "balanced": _Choice(
        "{{name: layra, first: {first}, last: {last}}}",
        "LayRA: retains most while it learns nearly as much as LoRA (arXiv 2509.11414 §4.1)",
    ),
    "comprehension": _Choice(
        "{{name: layra, first: {first}, last: {last}}}",
        "LayRA: the middle layers stay as they are, and drift there is what costs reading\n"
        "# comprehension (arXiv 2606.00284 §4.1)",
    ),
    "translation": _Choice(
        "{{name: full}}",
        "all weights: dense training gave the best translation but for its reverted variant, and the\n"
        "# most forgetting of comprehension (arXiv 2606.00284 §3.3, §3.4); watch the retained languages",
    ),
    "coverage": _Choice(
        "{{name: lora, embeddings: true}}",
        "LoRA in all layers, embeddings and head full-rank: room for several new languages at once",
    ),
}


def write_recipe(
    base: str,
    learn: Sequence[str],
    retain: Sequence[str] = (),
    goal: Goal = "balanced",
    out: Path | str = "recipe.yaml",
) -> str:
    """As `lingraft.init`."""
    out = file_target(out, lambda path: True)
    if goal not in GOALS:
        raise UserError(f"--goal {goal}: there is no such goal; goals: {', '.join(GOALS)}")
    if not learn:
        raise UserError("no language to learn; give one or more, as in --learn swh_Latn")
    learn, retain = list(map(code_of, learn)), list(map(code_of, retain))
    for code in [*learn, *retain]:
        if [*learn, *retain].count(code) > 1:
            raise UserError(f"{code} is named more than once; a language is learned or retained")
    if out.exists():
        raise OutputError(f"{out} exists; give another -o, or remove it")
    first, last, note = _layers(base)
    text = _recipe(_from(out, base), learn, retain, GOALS[goal], first, last, note)
    write_text(out, text)
    return text


def _from(out: Path, base: str) -> str:
    """Return a hub name unchanged, and a folder as a path relative to the recipe's folder."""
    if not Path(base).exists() or Path(base).is_absolute():
        return base
    above = out.absolute().parent.resolve()
    return f"./{os.path.relpath(Path(base).resolve(), above)}"  # so that it is no hub name


def _layers(base: str) -> tuple[int, int, str]:
    try:
        layers = depth(read_config(find_model(base, CONFIG_ONLY)))
    except ModelError:
        if Path(base).exists():
            raise
        return PAPER_FIRST, PAPER_LAST, "the paper's layers; the base could not be looked up from here"
    if layers < 2:
        raise UserError(f"{base} has {layers} layer; a first and a last group need at least two")
    first = max(1, round(layers * PAPER_FIRST / PAPER_DEPTH))
    last = max(1, round(layers * PAPER_LAST / PAPER_DEPTH))
    if layers >= 28:  # the paper takes the same layers of 28 and of 32
        first, last = PAPER_FIRST, PAPER_LAST
    return first, last, f"of {layers} layers"


def _recipe(
    base: str, learn: Sequence[str], retain: Sequence[str], choice: _Choice, first: int, last: int, note: str
) -> str:
    corpus = "\n".join(
        f"  - {{language: {code}, hub: HuggingFaceFW/fineweb-2, subset: {code}, tokens: 100_000_000}}" for code in learn
    )
    texts = "\n".join(f"    {code}: {code}.jsonl.gz" for code in retain)
    evaluation = (
        f"\nevaluation:  # text of the old languages, to see what is forgotten; none of it trains\n  text:\n{texts}\n"
    )
    return f"""\
base: {json.dumps(base, ensure_ascii=False)}
languages: {{learn: [{", ".join(learn)}], retain: [{", ".join(retain)}]}}

corpus:  # or files: a path or pattern to .jsonl(.gz|.zst), .parquet or .txt
{corpus}

# {choice.reason}; {note}
method: {choice.method.format(first=first, last=last)}
{evaluation if retain else ""}"""
