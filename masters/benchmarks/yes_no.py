"""Yes or no: the answer is the one of the two words that is said; where both are, or none is, nothing is said."""

import re

from masters.benchmarks.questions import Question
from masters.judging.parser import spoken

_WORD = re.compile(r"(?<![^\W_])(yes|no)(?![^\W_])", re.IGNORECASE)


def extract(question: Question, response: str) -> str | None:
    """`yes`, `no`, or None."""
    said = {word.lower() for word in _WORD.findall(spoken(response) or "")}
    return said.pop() if len(said) == 1 else None


def value(question: Question, word: str) -> float:
    """1 for the right word, else 0."""
    return float(word == question.answer.strip().lower())
