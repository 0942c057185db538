"""Matching of a response with accepted answers: normalised text, and a tolerance for answers declared numbers."""

import re
import unicodedata
from collections.abc import Sequence

_ARTICLES = {"a", "an", "the"}
_NUMBERS = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?%?")
_NOT_WORD = re.compile(r"(?<!\d)[.,](?!\d)|[.,](?!\d)|(?<!\d)[.,]|[^\w\s.,%+-]")


def normalise(text: str) -> str:
    """Lower case, one space between words, no articles, no punctuation outside numbers."""
    plain = _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(word for word in plain.split() if word not in _ARTICLES)


def matches(response: str, answers: Sequence[str], answer_type: str, tolerance: float) -> bool:
    """Whether a response says one of the accepted answers.

    Args:
        response: what was answered.
        answers: accepted phrasings.
        answer_type: `text` or `number`. Only where the answer is declared a number may the response differ by `tolerance`
            relative to it (1950 is not 2020), and then it must hold exactly one number.
        tolerance: relative, for example 0.05.
    """
    said = normalise(response)
    if any(said == normalise(answer) for answer in answers):
        return True
    if answer_type != "number":
        return False
    values = numbers_in(response)
    return len(values) == 1 and any(_close(values[0], numbers_in(answer), tolerance) for answer in answers)


def numbers_in(text: str) -> list[float]:
    """All numbers in a text, thousands separators understood; a percent sign is dropped, as in the label."""
    found = (match.group() for match in _NUMBERS.finditer(text))
    return [float(number.replace(",", "").rstrip("%")) for number in found if re.search(r"\d", number)]


def _close(value: float, wanted: Sequence[float], tolerance: float) -> bool:
    return len(wanted) == 1 and abs(value - wanted[0]) <= tolerance * abs(wanted[0])
