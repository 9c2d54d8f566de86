"""Evaluation: learning and forgetting, measured on the same bytes before and after."""

NUM_SAMPLES = 2
"""Prompts per language that are continued, where nothing is said."""
BEGINNING = 24
"""Characters that two answers share to begin alike."""
NUM_CONVERSATIONS = 40
"""Conversations of the base on which its chat is measured, where nothing is said."""
NUM_SEQUENCES = 16
"""Sequences of words per language that stand twice, to measure in-context copying, where nothing is said."""
COPYING = "in-context copying"
"""A task that nobody gives: see `copying.py`."""
RULE = "in-context learning"
"""A task that nobody gives: see `rule.py`."""
ALIGNMENT = "alignment"
"""A task of pairs of sentences: see `alignment.py`."""
ABILITIES = {COPYING: "copying_", RULE: "in_context_learning_", ALIGNMENT: "alignment_"}
"""How the log of a training begins the keys of what is measured at each validation; a language follows."""
