"""Open questions of MMMU, as its official script reads and compares answers. Other MMMU questions go by letter.

What the response ends with, behind words such as "is" or "answer", is a candidate, and so is every number in it. A text is
right where a candidate contains it, a number where a candidate equals it, both rounded to two decimals.
"""

import math
import re
from collections.abc import Collection

from masters.benchmarks import letters
from masters.benchmarks.questions import Question
from masters.benchmarks.relaxed import accepted
from masters.judging.parser import spoken

_LEADS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)
_TRIVIAL = (":", ",", ".", "!", "?", ";", "'")

Candidate = str | float


def extract(question: Question, response: str) -> str | None:
    """The letter of multiple choice; of an open question what was said behind the last thought."""
    if question.options:
        return letters.extract(question, response)
    return spoken(response)


def value(question: Question, extracted: str) -> float:
    """1 for the right letter, or where a candidate of the text agrees with an accepted answer."""
    if question.options:
        return letters.value(question, extracted)
    return float(agrees(extracted, accepted(question)))


def judge_prompt(
    question: Question, response: str, code: str, control_tokens: Collection[str]
) -> list[dict[str, object]] | None:
    """Of multiple choice only: open answers are never unresolved."""
    return letters.judge_prompt(question, response, code, control_tokens) if question.options else None


def judge_reply(question: Question, reply: str) -> str | None:
    """The letter that a judge says."""
    return letters.judge_reply(question, reply)


def agrees(said: str, answers: Collection[str]) -> bool:
    """Whether one of the candidates of a text is one of the answers, or contains it."""
    wanted = [form for answer in answers for form in _forms(answer)]
    texts = [form for form in wanted if isinstance(form, str)]
    return any(
        any(text in candidate for text in texts) if isinstance(candidate, str) else candidate in wanted
        for candidate in _candidates(said)
    )


def _candidates(said: str) -> list[Candidate]:
    """Tails and numbers of the text in the order in which they are found."""
    text = said.strip().strip(".").lower()
    lines = text.split("\n")
    tails = [tail for place, line in enumerate(lines) if (tail := _tail(line, last=place == len(lines) - 1))]
    tails = tails or [text]
    numbers = [number for tail in tails for pattern in _NUMBERS for number in pattern.findall(tail)]
    return [form for found in (*tails, *numbers) for form in _forms(found)]


def _tail(line: str, last: bool) -> str:
    """The shortest text behind a lead; empty where there is none. The last line may be an equation."""
    leads = (*_LEADS, "=") if last else _LEADS
    tails = [line.rpartition(lead)[2].strip() for lead in leads if lead in line]
    tail = min((tail for tail in tails if tail), key=len, default="")
    return "" if tail in _TRIVIAL else tail


def _forms(text: str) -> list[Candidate]:
    """A number rounded to two decimals; a text in small letters, a single character with a blank on either side."""
    text = text.strip()
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return [round(number, 2)]
    text = text.lower()
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]
