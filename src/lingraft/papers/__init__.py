"""The papers' tables as sweeps, and their figures beside ours."""
