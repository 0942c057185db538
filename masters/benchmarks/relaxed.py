"""Relaxed accuracy (ChartQA): numbers within 5 % of the answer, else the same text. Nothing is cleaned.

Years are numbers, too, and 5 % is .05: so the metric is defined, and so others compute it.
"""

from decimal import Decimal

from masters.benchmarks.numerals import decimal
from masters.benchmarks.questions import Question, as_texts
from masters.data.rejects import RejectError
from masters.judging.parser import spoken

_TOLERANCE = Decimal("0.05")


def extract(question: Question, response: str) -> str | None:
    """What was said behind the last thought, without blanks around it."""
    said = spoken(response)
    return None if said is None else said.strip()


def value(question: Question, said: str) -> float:
    """1 where it agrees with one of the accepted answers, else 0."""
    return float(any(agrees(said, answer) for answer in accepted(question)))


def agrees(said: str, answer: str) -> bool:
    """Numbers: |said - answer| <= 5 % of |answer|, where both are whole numerals and the answer is not 0. Else equal text."""
    said, answer = said.strip(), answer.strip()
    heard, wanted = _number(said), _number(answer)
    if heard is not None and wanted:
        return abs(heard - wanted) <= _TOLERANCE * abs(wanted)
    return said.lower() == answer.lower()


def accepted(question: Question) -> list[str]:
    """The answer, or those of the list that the cell shows."""
    if question.answer.lstrip().startswith("["):
        try:
            return as_texts(question.answer)
        except RejectError:
            pass
    return [question.answer]


def _number(text: str) -> Decimal | None:
    found = decimal(text.removesuffix("%"))
    return found / 100 if found is not None and text.endswith("%") else found
