"""Evaluation: learning and forgetting, measured on the same bytes before and after."""

NUM_SAMPLES = 2
"""Prompts per language that are continued, where nothing is said."""
