"""The testbed: artificial languages over a small seeded world, with text, questions, and a trained base."""

from lingraft.synthetic.base import cache_folder, code_fingerprint, trained_base
from lingraft.synthetic.files import NEW, OLD, TASKS, measured_file, questions_file, training_file, write_testbed

__all__ = [
    "NEW",
    "OLD",
    "TASKS",
    "cache_folder",
    "code_fingerprint",
    "measured_file",
    "questions_file",
    "trained_base",
    "training_file",
    "write_testbed",
]
