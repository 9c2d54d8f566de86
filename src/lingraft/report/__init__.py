"""One self-contained page: what was learned and what was forgotten, per language."""

from lingraft.report.page import report

__all__ = ["report"]
