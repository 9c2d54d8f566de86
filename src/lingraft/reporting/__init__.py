"""The report: one self-contained HTML file with learning and forgetting per language."""
