"""Questions whose answers anyone can check, to ask a chat model before and after."""

from __future__ import annotations

import re

KNOWN_ANSWERS: dict[str, tuple[str, ...]] = {
    "What is the capital of France?": ("Paris",),
    "What is the capital of Italy?": ("Rome",),
    "What is the capital of Japan?": ("Tokyo",),
    "What is the capital of Germany?": ("Berlin",),
    "What is the largest planet in the solar system?": ("Jupiter",),
    "Which planet is known as the Red Planet?": ("Mars",),
    "What is the chemical symbol for gold?": ("Au",),
    "What is H2O commonly called?": ("water",),
    "Who wrote Romeo and Juliet?": ("Shakespeare",),
    "Who painted the Mona Lisa?": ("Leonardo", "da Vinci"),
    "How many days are there in a week?": ("7", "seven"),
    "How many continents are there on Earth?": ("7", "seven"),
    "What is the largest ocean on Earth?": ("Pacific",),
    "What is the tallest mountain on Earth?": ("Everest",),
    "What is 2 + 2?": ("4", "four"),
    "What colour is the sky on a clear day?": ("blue",),
    "Which animal is known as man's best friend?": ("dog", "dogs"),
    "What do bees make?": ("honey",),
    "In which country is the Great Wall?": ("China",),
    "What is the opposite of hot?": ("cold",),
}
"""Question -> words of which a right answer has one."""


def is_right(question: str, answer: str) -> bool:
    """Whether an answer has one of the words of a right one, whatever its case; a part of a number is no number."""
    whole = r"(?<!\d[.,])\b{}\b(?![.,]\d)"
    words = KNOWN_ANSWERS[question]
    return any(re.search(whole.format(re.escape(word)), answer, re.IGNORECASE) for word in words)
