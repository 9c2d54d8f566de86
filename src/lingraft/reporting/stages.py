"""The stages of a run with their records and logs; most runs have one, unnamed stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """A stage, from the files of its run."""

    name: str | None
    """`None` in a run of one unnamed stage."""
    origin: dict[str, Any]
    """Its part of `lingraft.json`; empty where there is none."""
    training: dict[str, Any]
    """Its part of `training.json`; empty where there is none."""

    @property
    def method(self) -> str | None:
        name: str | None = self.origin.get("method", {}).get("name")
        return name


def stages(origin: dict[str, Any], training: dict[str, Any]) -> list[Stage]:
    """The stages in their order, each with the log of its name; at least one."""
    logs = list(training.get("stages", []))
    found = []
    for recorded in origin.get("stages", []):
        log = next((log for log in logs if log["name"] == recorded["name"]), None)
        if log is not None:
            logs.remove(log)
        found.append(Stage(recorded["name"], recorded, log or {}))
    found += [Stage(log["name"], {}, log) for log in logs]
    return found or [Stage(None, origin, training)]


def method_name(found: Sequence[Stage]) -> str | None:
    """The method of the only stage, or the names of all: `align → adapt`."""
    names = [stage.name for stage in found if stage.name is not None]
    return " → ".join(names) if names else found[0].method
