"""One self-contained page: what was learned and what was forgotten, per language."""
