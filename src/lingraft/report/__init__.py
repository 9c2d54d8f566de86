"""One self-contained page: what was learned and what was forgotten, per language."""

from lingraft.report.page import draw_page, report

__all__ = ["draw_page", "report"]
