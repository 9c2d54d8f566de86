"""Diagnoses of a finished run: which weights moved, what that costs and gives, and what its layers and gates do."""
