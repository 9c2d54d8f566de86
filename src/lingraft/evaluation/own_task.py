"""What the suites of a user's own questions share: a title, the questions, and how they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lingraft.evaluation.questions import OwnTask
from lingraft.evaluation.task_scores import TaskSuite


@dataclass(frozen=True)
class OwnTaskSuite(TaskSuite):
    """One task of a user's own."""

    title: str
    task: OwnTask

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"tasks.{self.title}"

    @property
    def metrics(self) -> Sequence[str]:  # type: ignore[override]
        return self.task.metrics

    @property
    def uses_chat(self) -> bool:  # type: ignore[override]
        return self.task.chat

    @property
    def fingerprint(self) -> dict[str, str]:
        return self.task.fingerprint
