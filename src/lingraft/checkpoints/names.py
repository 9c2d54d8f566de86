"""The name of a model in published files: its hub name or its folder's name, never a path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_IN_A_RUN = ("model", "adapter")
_CACHED = "models--"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def is_place(name: Any) -> bool:
    """Whether a name is a path on this disk."""
    return isinstance(name, str) and (Path(name).is_absolute() or name.startswith(("~", "./", "../")) or name == ".")


def on_hub(name: str) -> bool:
    """Whether a model's name is one on the hub: it is no path, and no such folder exists here."""
    return not is_place(name) and not Path(name).exists()


def public_name(name: str) -> str:
    """The hub name, also for a folder in the hub's cache; else the folder's name, for a run's model the run's name."""
    if on_hub(name):
        return name
    folder = Path(name).expanduser().absolute()
    cached = next((part for part in folder.parts if part.startswith(_CACHED)), None)
    if cached and folder.parent.name == "snapshots":
        return cached.removeprefix(_CACHED).replace("--", "/", 1)
    own, above = folder.resolve().name, folder.resolve().parent.name
    return (above if own in _IN_A_RUN else own) or "model"


def without_places(value: Any) -> Any:
    """A record in which a public name replaces every path, in keys too."""
    if isinstance(value, Mapping):
        return {public_name(key) if is_place(key) else key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    return public_name(value) if is_place(value) else value


def is_hub_name(name: str) -> bool:
    """Whether a name could be one of the hub's; a folder may have such a name too."""
    return _HUB_NAME.fullmatch(name) is not None
