"""The stages of a run: what trained in each, and what it said; most runs have one, without a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """A stage as the files of its run have it."""

    name: str | None
    """`None` where the run has but this one."""
    origin: dict[str, Any]
    """What `lingraft.json` says of it; empty where there is none."""
    training: dict[str, Any]
    """What `training.json` says of it; empty where there is none."""

    @property
    def method(self) -> str | None:
        name: str | None = self.origin.get("method", {}).get("name")
        return name


def stages(origin: dict[str, Any], training: dict[str, Any]) -> list[Stage]:
    """The stages in their order, each with the log of its name; at least one."""
    logs = list(training.get("stages", []))
    found = []
    for of in origin.get("stages", []):
        log = next((log for log in logs if log["name"] == of["name"]), None)
        if log is not None:
            logs.remove(log)
        found.append(Stage(of["name"], of, log or {}))
    found += [Stage(log["name"], {}, log) for log in logs]
    return found or [Stage(None, origin, training)]


def method_name(of: Sequence[Stage]) -> str | None:
    """The method of the only stage, or the names of all: `align → adapt`."""
    names = [stage.name for stage in of if stage.name is not None]
    return " → ".join(names) if names else of[0].method
