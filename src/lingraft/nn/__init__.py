"""Modules that are added to a model: the gated adapter, its local losses, and how others load it."""
