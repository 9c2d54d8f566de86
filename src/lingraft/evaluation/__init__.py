"""What was learned and what was forgotten, on the same bytes before and after."""

from collections.abc import Mapping
from typing import Literal

Role = Literal["learn", "retain", "observe"]
"""What a run has to do with a language."""
Roles = Mapping[str, Role]

SAMPLES = 2
"""Prompts per language, where nothing is said."""
