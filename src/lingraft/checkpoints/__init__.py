"""Model folders: found, opened, written and verified."""
