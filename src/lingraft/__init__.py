"""lingraft adds new languages to a pretrained language model without losing the old ones, and proves it."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lingraft.nn.with_peft import register_with_peft

if TYPE_CHECKING:
    from lingraft import merge as merge
    from lingraft import tokenizer as tokenizer
    from lingraft.demo import demo
    from lingraft.evaluate import evaluate
    from lingraft.init import init
    from lingraft.report import report
    from lingraft.run import run

    __version__: str

__all__ = ["demo", "evaluate", "init", "merge", "report", "run", "tokenizer"]


class _Package(ModuleType):
    """Public functions are imported when they are first asked for, since torch takes seconds to load.

    `lingraft.run` stays the function also once its module, of the same name, was imported.
    """

    def __dir__(self) -> list[str]:
        return sorted({*__all__, *(name for name in super().__dir__() if name.startswith("__")), "__version__"})

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return import_module("importlib.metadata").version("lingraft")
        if name not in __all__:
            raise AttributeError(f"module 'lingraft' has no attribute '{name}'")
        module = import_module(f"lingraft.{name}")
        return getattr(module, name, module)  # `lingraft.merge` is itself what is public

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
register_with_peft()
