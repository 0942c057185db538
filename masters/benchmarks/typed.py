"""Typed answers (MathVista), as its official script compares them, but never the nearest option.

Multiple choice goes by the letter rules. Numbers are extracted where the whole answer is one; else a judge extracts them.
"""

import unicodedata
from collections.abc import Collection

from masters.benchmarks import letters
from masters.benchmarks.asking import chat
from masters.benchmarks.numerals import decimal
from masters.benchmarks.questions import Question, as_texts
from masters.data.rejects import RejectError
from masters.judging.parser import spoken

_NOTHING = "none"


def extract(question: Question, response: str) -> str | None:
    """The letter, number, list or text of a response, in the type of the answer; None where it is not the whole response."""
    if question.is_multi_choice:
        return letters.extract(question, response)
    said = spoken(response)
    return None if said is None else _typed(question, unicodedata.normalize("NFKC", said).strip())


def value(question: Question, extracted: str) -> float:
    """1 where the typed values are equal: integers as such, floats at the precision of the question, lists as lists."""
    if question.is_multi_choice:
        return letters.value(question, extracted)
    if extracted == _NOTHING:
        return 0.0
    kind, answer = question.details.get("answer_type", ""), question.answer.strip()
    if kind == "list":
        return float(_numbers(extracted) == _numbers(answer))
    if kind not in ("integer", "float"):
        return float(extracted == answer)
    heard, wanted = float(extracted), decimal(answer)
    if wanted is None:
        return 0.0
    places = _precision(question) if kind == "float" else None
    return float(heard == float(wanted) if places is None else round(heard, places) == round(float(wanted), places))


def judge_prompt(
    question: Question, response: str, code: str, control_tokens: Collection[str]
) -> list[dict[str, object]]:
    """Asks which value the response gives. The right answer is not told."""
    if question.is_multi_choice:
        return letters.judge_prompt(question, response, code, control_tokens)
    kind = {"integer": "an integer", "float": "a decimal number", "list": "a list such as [1, 2]"}
    wanted = kind.get(question.details.get("answer_type", ""), "a short text")
    quoted = {"question": question.question, "response": response}
    return chat("value", code, control_tokens, quoted, wanted=wanted)


def judge_reply(question: Question, reply: str) -> str | None:
    """The value that a judge says; `none` where it says that there is none; None where it cannot be read."""
    if question.is_multi_choice:
        return letters.judge_reply(question, reply)
    said = unicodedata.normalize("NFKC", spoken(reply) or "").strip(" \n*`").removesuffix(".")
    return _NOTHING if said.lower() == _NOTHING else _typed(question, said)


def _typed(question: Question, said: str) -> str | None:
    kind = question.details.get("answer_type", "")
    if kind in ("integer", "float"):
        return said if decimal(said) is not None else None
    if kind == "list":
        return said if _numbers(said) is not None else None
    return said or None


def _numbers(text: str) -> list[float | str] | None:
    """The elements of a list that a text shows, numbers as such; None where it shows none."""
    try:
        elements = as_texts(text)
    except RejectError:
        return None
    return [element if (number := decimal(element)) is None else float(number) for element in elements]


def _precision(question: Question) -> int:
    """Decimal places: of the column, else of the answer."""
    given = decimal(question.details.get("precision", ""))
    if given is not None:
        return int(given)
    return len(question.answer.strip().partition(".")[2])
