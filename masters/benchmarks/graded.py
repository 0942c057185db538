"""Graded by a judge from 0 to 1 (MM-Vet). The judge is told the right answer: it grades, it does not extract."""

import re
import unicodedata
from collections.abc import Collection

from masters.benchmarks.asking import chat
from masters.benchmarks.questions import Question
from masters.judging.parser import spoken

_GRADE = re.compile(r"(?:0|1|0?\.\d+|[01]\.\d*)", re.ASCII)


def extract(question: Question, response: str) -> str | None:
    """0 where nothing was said; else the judge is needed."""
    return None if (spoken(response) or "").strip() else "0"


def value(question: Question, grade: str) -> float:
    """The grade."""
    return float(grade)


def judge_prompt(
    question: Question, response: str, code: str, control_tokens: Collection[str]
) -> list[dict[str, object]]:
    """Asks for the grade of a response."""
    quoted = {"question": question.question, "ground_truth": question.answer, "response": response}
    return chat("grade", code, control_tokens, quoted)


def judge_reply(question: Question, reply: str) -> str | None:
    """The number from 0 to 1 that a reply consists of; None for any other reply."""
    said = unicodedata.normalize("NFKC", spoken(reply) or "").strip()
    return said if _GRADE.fullmatch(said) and float(said) <= 1 else None
