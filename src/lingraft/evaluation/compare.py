"""Two measurements of the same suites -> the measured part of `results.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lingraft.evaluation.measure import Measurement
from lingraft.evaluation.suite import Roles, Suite


def compare(
    suites: Sequence[Suite[Any]], after: Measurement, before: Measurement | None, roles: Roles
) -> dict[str, Any]:
    """The measured keys of `schema.Results`, merged over all suites; all tasks go under `tasks`."""
    found: dict[str, Any] = {"languages": {}, "tasks": {}, "samples": []}
    for suite in suites:
        for key, part in suite.compare(after[suite.name], before[suite.name] if before else None, roles).items():
            found[key] = {**found[key], **part} if isinstance(found.get(key), Mapping) else part
    return found
