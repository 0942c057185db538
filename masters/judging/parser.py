"""Reading a verdict out of a judge's own words. What cannot be read is None, never 0."""

import re
import unicodedata

_END_OF_THOUGHT = re.compile(r"</think>", re.IGNORECASE)
_THOUGHT = re.compile(r"<think>", re.IGNORECASE)
_OPENING = re.compile(r"<\s*answer\b[^<>]*>?", re.IGNORECASE)
_TAG = re.compile(r"<\s*answer\s*>([^<]*)<\s*/\s*answer\s*>", re.IGNORECASE)
_SCORE = re.compile(r"[01](?:\.0+)?")
_WORDS_BEFORE = (
    r"the|an?|my|your|binary|integer|accuracy|final|overall|score|answer|verdict|result|is|would be|:|=|<answer>"
)
_ONLY_SCORE = re.compile(
    rf"(?:(?:{_WORDS_BEFORE})(?![a-z])[\s*`]*)*([01])(?:\.0+)?[\s*`]*(?:</answer>)?[.\s*`]*", re.IGNORECASE
)


def answer_tag(completion: str) -> int | None:
    """The score in the last <answer></answer> of the first prompt's completion; None without a readable one."""
    said = spoken(completion)
    openings = list(_OPENING.finditer(said)) if said is not None else []
    if said is None or not openings:
        return None
    tag = _TAG.match(said, openings[-1].start())
    content = _plain(tag[1]).strip("*`'\" .\n\t") if tag else ""
    return int(content[0]) if _SCORE.fullmatch(content) else None


def integer_score(completion: str) -> int | None:
    """The 0 or 1 that the second prompt's completion consists of; None where it says anything else.

    Words such as `Score:` may stand before it, and an explanation without another number on the lines below.
    """
    first, _, rest = _plain(spoken(completion) or "").strip().partition("\n")
    said = _ONLY_SCORE.fullmatch(first.strip(" *`"))
    return int(said[1]) if said and not re.search(r"\d", rest) else None


def verdict(first: str, second: str) -> int | None:
    """1 or 0 from the second completion; None where it has none, or where the first one's score is another or unreadable.

    A first completion without any <answer> contradicts nothing; one that never stopped thinking says nothing.
    """
    said = spoken(first)
    if said is None or (_OPENING.search(said) and answer_tag(first) is None):
        return None
    tagged, scored = answer_tag(first), integer_score(second)
    return None if tagged is not None and tagged != scored else scored


def spoken(completion: str) -> str | None:
    """What follows the last </think>; None for a completion that ended inside a thought."""
    said = _END_OF_THOUGHT.split(completion)[-1]
    return None if _THOUGHT.search(said) else said


def _plain(text: str) -> str:
    """Full-width digits and signs as ordinary ones."""
    return unicodedata.normalize("NFKC", text)
