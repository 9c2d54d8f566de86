"""The command line."""

from lingraft.cli.main import main

__all__ = ["main"]
