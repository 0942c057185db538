"""Reading a verdict out of a judge's own words. What cannot be read is None, never 0."""

import re

_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r"<think>", re.IGNORECASE)
_TAG = re.compile(r"<\s*answer\s*>\s*(.*?)\s*<\s*/\s*answer\s*>", re.DOTALL | re.IGNORECASE)
_SCORE = re.compile(r"[01](?:\.0+)?")
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?")


def answer_tag(completion: str) -> int | None:
    """The score in the last <answer></answer> of the first prompt's completion; None without a readable one."""
    tags = _TAG.findall(_spoken(completion) or "")
    return _score(tags[-1].strip("*`'\" .")) if tags else None


def integer_score(completion: str) -> int | None:
    """The only number in the second prompt's completion, if it is 0 or 1; None otherwise."""
    spoken = _spoken(completion)
    numbers = _NUMBER.findall(spoken) if spoken is not None else []
    return _score(numbers[0]) if len(numbers) == 1 else None


def verdict(first: str, second: str) -> int | None:
    """1 or 0 from the second completion; None where it has none or contradicts the first one's <answer></answer>."""
    tagged, scored = answer_tag(first), integer_score(second)
    return None if tagged is not None and tagged != scored else scored


def _spoken(completion: str) -> str | None:
    """The completion without thoughts; None if it ended inside one."""
    spoken = _THOUGHTS.sub(" ", completion)
    return None if _OPEN_THOUGHT.search(spoken) else spoken


def _score(text: str) -> int | None:
    return int(text[0]) if _SCORE.fullmatch(text) else None
