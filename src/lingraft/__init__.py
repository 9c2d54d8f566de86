"""lingraft adds new languages to a pretrained language model without losing the old ones, and proves it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lingraft.api import NAMESPACES, advise, demo, diagnose, evaluate, generate, init, report, reproduce, run
from lingraft.nn.peft_registration import register_with_peft

if TYPE_CHECKING:
    from lingraft.merging import methods as merge
    from lingraft.vocabulary import tokenizer

    __version__: str

__all__ = [
    "advise",
    "demo",
    "diagnose",
    "evaluate",
    "generate",
    "init",
    "merge",
    "report",
    "reproduce",
    "run",
    "tokenizer",
]


def __getattr__(name: str) -> Any:
    if name in NAMESPACES:
        return import_module(NAMESPACES[name])
    if name == "__version__":
        return import_module("importlib.metadata").version("lingraft")
    raise AttributeError(f"module 'lingraft' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__", *(name for name in globals() if name.startswith("__"))})


register_with_peft()
