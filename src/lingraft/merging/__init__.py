"""Arithmetic on checkpoints: language vectors, soups, TIES, DARE, reverting, interpolation, scale selection."""
