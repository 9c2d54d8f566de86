"""Diagnoses of a finished run: which weights moved, and what the movement of each layer group costs and gives."""
