"""A step: a function from typed values to a folder, cached under a key that is derived from these values.

    @step(Blocks)
    def pack(folder: Path, documents: Sequence[Documents], max_length: int, seed: int) -> None:
        ...                                     # fills `folder`

    blocks = pack(work / "blocks", documents, max_length=2048, seed=0)

`pack` runs unless a finished artefact of the same arguments lies at that path. It knows nothing but its arguments,
so that nothing it depends on can be missing in the key. Increase `version` when a step makes something else of the
same arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from accelerate import PartialState
from pydantic import BaseModel

from lingraft.cache import artefact_fingerprint, cached, is_whole

P = ParamSpec("P")


@dataclass(frozen=True)
class Artefact:
    """A folder that a step filled. A subclass gives typed access to its files."""

    folder: Path

    @property
    def fingerprint(self) -> str:
        """Changes when the inputs of the artefact or its files change."""
        return artefact_fingerprint(self.folder)


A = TypeVar("A", bound=Artefact)


_SHARING: ContextVar[tuple[Path, Sequence[Path]] | None] = ContextVar("sharing", default=None)


@contextmanager
def sharing(work: Path, others: Sequence[Path]) -> Iterator[None]:
    """Within the block, an artefact below `work` is copied from below one of `others`, where it has the same key."""
    token = _SHARING.set((work, others))
    try:
        yield
    finally:
        _SHARING.reset(token)


def _elsewhere(folder: Path) -> list[Path]:
    shared = _SHARING.get()
    if shared is None or not folder.is_relative_to(shared[0]):
        return []
    return [other / folder.relative_to(shared[0]) for other in shared[1]]


class Step(Generic[P, A]):
    """A cached function: call it with a path and its arguments, and it returns the artefact."""

    def __init__(
        self, make: Callable[Concatenate[Path, P], None], kind: type[A], version: int, unkeyed: Sequence[str]
    ) -> None:
        self._make, self._kind, self._version, self._unkeyed = make, kind, version, unkeyed
        self._signature = inspect.signature(partial(make, Path()))  # without the folder
        self.__doc__ = make.__doc__

    def __call__(self, at: Path, /, *arguments: P.args, **named: P.kwargs) -> A:
        """Return the artefact. With several processes the first one makes it."""
        key = self.key(*arguments, **named)
        with PartialState().main_process_first():
            cached(at, key, lambda folder: self._make(folder, *arguments, **named), _elsewhere(at))
        return self._kind(at)

    def take(self, at: Path, key: dict[str, Any]) -> bool:
        """Copy the artefact of this key from a run beside this one; whether there was one.

        Of several processes none does: each would have to find the same.
        """
        if PartialState().num_processes > 1 or not any(is_whole(other, key) for other in _elsewhere(at)):
            return False
        try:
            cached(at, key, _gone, _elsewhere(at))
        except _GoneError:  # it changed meanwhile
            return False
        return True

    def key(self, *arguments: P.args, **named: P.kwargs) -> dict[str, Any]:
        """Return the key of these arguments: the name and version of the step, and each argument."""
        bound = self._signature.bind(*arguments, **named)
        bound.apply_defaults()
        keyed = {name: key_of(value) for name, value in bound.arguments.items() if name not in self._unkeyed}
        return {"step": f"{self._make.__name__} {self._version}", **keyed}


class _GoneError(Exception):
    """An artefact that was to be copied is no longer there."""


def _gone(folder: Path) -> None:
    raise _GoneError(folder)


def step(
    kind: type[A], version: int = 1, unkeyed: Sequence[str] = ()
) -> Callable[[Callable[Concatenate[Path, P], None]], Step[P, A]]:
    """Turn a function that fills a folder into a step.

    `unkeyed` names arguments that change what is logged, and never what is made.
    """
    return lambda make: Step(make, kind, version, unkeyed)


def key_of(value: object) -> Any:
    """Return the part of a key that represents a value: its `fingerprint`, its fields, or the value itself.

    Raises:
        TypeError: nothing stands for it, as for a path, whose content a key must hold.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "fingerprint"):
        return value.fingerprint
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: key_of(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): key_of(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [key_of(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be part of a step's key: {value!r}")
