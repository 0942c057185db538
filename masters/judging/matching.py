"""Matching of a response with accepted answers. A wrong "right" is worse than a wrong "wrong": every doubt is wrong."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from masters.judging.choice import label_letter, lettered, resolve
from masters.judging.normalising import normalise, plain
from masters.judging.parser import spoken
from masters.judging.quantities import close, quantity

_LEAD_IN = re.compile(
    r"\s*(?:(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is\b\s*:?|:)|(?:it|this|that)(?:\s+is\b|'s\b)|(?:they|there)\s+are\b"
    r"|there\s+is\b)\s*",
    re.IGNORECASE,
)
_YES_NO = re.compile(
    r"(yes|no)\b(?:\s*$|\s*[,;:!.\n-](?!\s*\d)|\s+(?=(?:it|there|they|he|she|this|that|these|those)\b))(.*)", re.DOTALL
)
_HEDGE = re.compile(r"\b(?:but|however|maybe|perhaps|possibly|sure|unclear|unknown|cannot|or)\b|\bcan't\b")
_TAKEN_BACK = {"yes": re.compile(r"\b(?:no|not|never|none|nothing)\b|n't\b"), "no": re.compile(r"\byes\b")}


def matches(
    response: str, answers: Sequence[str], answer_type: str, tolerance: float, options: Sequence[str] | None = None
) -> bool:
    """Whether a response says one of the accepted answers. An empty one never does.

    Args:
        response: what was answered; only what follows the last </think> counts.
        answers: accepted phrasings.
        answer_type: text: the same words. number: also the one number of the response, which may differ by `tolerance`.
            integer: also the one number, exactly. choice: the option that the response names is the label's.
        tolerance: relative, in [0, 1), for example 0.05.
        options: texts of the options in order, for choice; without them the words are compared.
    """
    said = spoken(response)
    if said is None or not plain(said):
        return False
    if answer_type == "choice" and options:
        letters = lettered(options)
        return resolve(said, letters) in {label_letter(answer, letters) for answer in answers} - {None}
    return any(_same_words(said, answer) or _same_number(said, answer, answer_type, tolerance) for answer in answers)


def _same_words(said: str, answer: str) -> bool:
    if not plain(answer):
        return False
    wanted, heard = _core(answer), _core(said)
    if heard == wanted or (heard.isascii() and heard == _without_accents(wanted)):
        return True
    return wanted in ("yes", "no") and _yes_or_no(said) == wanted


def _same_number(said: str, answer: str, answer_type: str, tolerance: float) -> bool:
    if answer_type not in ("number", "integer"):
        return False
    number = answer_type == "number"
    heard, wanted = (quantity(_without_lead_in(text), exact=not number) for text in (said, answer))
    return heard is not None and wanted is not None and close(heard, wanted, tolerance if number else 0)


@lru_cache(4096)  # the answers of a sample meet many responses, and a response many answers
def _core(text: str) -> str:
    """The normalised text without a lead-in such as `The answer is`."""
    return normalise(_without_lead_in(text))


def _without_lead_in(text: str) -> str:
    text = plain(text)
    while (lead := _LEAD_IN.match(text)) and lead.end() < len(text):
        text = text[lead.end() :]
    return text


def _yes_or_no(text: str) -> str | None:
    """`yes` or `no` where a text begins with it and takes nothing of it back."""
    start = _YES_NO.match(_without_lead_in(text).casefold())
    if not start or _HEDGE.search(start[2]) or _TAKEN_BACK[start[1]].search(start[2]):
        return None
    return start[1]


def _without_accents(text: str) -> str:
    """Accents of letters only: ≠ is no = with an accent."""
    return "".join(unicodedata.normalize("NFD", c)[0] if c.isalpha() else c for c in text)
