"""`import lingraft` is enough for peft to read our adapters, and still loads neither peft nor torch.

peft has no entry points: a type of adapters is made known by calling `peft.utils.register_peft_method`, which imports
peft and torch. A hook on the import of peft makes the call when somebody loads it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_OURS = "lingraft.nn.peft_adapter"


def register_with_peft() -> None:
    """Make our adapters known to peft: now where it is loaded, else when somebody loads it."""
    if "peft" in sys.modules:
        import_module(_OURS)
    else:
        sys.meta_path.insert(0, _WhenImported())


class _WhenImported(MetaPathFinder):
    """Finds peft as it would be found, and has our adapters follow it when it is loaded, not when it is looked for."""

    _is_looking = False

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "peft" or self._is_looking:
            return None
        self._is_looking = True
        try:
            spec = find_spec(name)
        finally:
            self._is_looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _AndThenOurs(spec.loader, self)
        return spec


class _AndThenOurs(Loader):
    def __init__(self, loader: Loader, finder: _WhenImported) -> None:
        self.loader, self.finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        sys.meta_path.remove(self.finder)
        self.loader.exec_module(module)
        import_module(_OURS)
