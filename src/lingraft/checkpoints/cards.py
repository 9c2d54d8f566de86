"""Model cards: front matter for the hub, and Markdown in which names from users are escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_MARKS = re.compile(r"([\\`*_\[\]<>|#~&])")
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f\x85\u2028\u2029]+")


def escaped(text: object) -> str:
    """A text as one table cell, or part of a line: Markdown and HTML are escaped, line breaks become spaces."""
    return _MARKS.sub(r"\\\1", _BREAKS.sub(" ", str(text)).strip())


def as_code(text: object) -> str:
    """A text in code font, on one line; for fingerprints and formulas that lingraft writes."""
    return f"`{_BREAKS.sub(' ', str(text)).replace('`', '').replace('|', '')}`"


def card(head: Mapping[str, Any], lines: Sequence[str]) -> str:
    """A card; empty keys of the head are left out."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(**{key: value for key, value in head.items() if value})
    return "\n".join(["---", data.to_yaml(), "---", *lines, ""])


def adapter_card(base: str, on_hub: bool, method: str, languages: Sequence[str], plain_peft: bool) -> str:
    """The card of an adapter that a run trained: what it is, and how to load it.

    `plain_peft`: peft loads it without lingraft.
    """
    head = {
        "library_name": "peft" if plain_peft else "lingraft",
        "tags": ["lingraft", *(["lora"] if plain_peft else [])],
        "language": list(dict.fromkeys(code.partition("_")[0] for code in languages)),
        "base_model": base if on_hub else None,
        "base_model_relation": "adapter" if on_hub else None,
    }
    load = [
        *([] if plain_peft else ["import lingraft  # makes its adapters known to peft"]),
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"model = AutoModelForCausalLM.from_pretrained({base!r})" + ("" if on_hub else "  # its folder"),
        'model = PeftModel.from_pretrained(model, "this-folder")',
        'tokenizer = AutoTokenizer.from_pretrained("this-folder")',
    ]
    lines = [
        f"# {escaped(base)} with {', '.join(map(escaped, languages))}",
        "",
        f"An adapter that lingraft trained by the method {as_code(method)} on {escaped(base)}, to learn "
        f"{', '.join(map(escaped, languages))}. What went into it is in `lingraft.json`.",
        "",
        "```python",
        *load,
        "```",
        "",
        "The base's licence applies.",
    ]
    return card(head, lines)
