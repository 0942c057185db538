"""Responses that are wrong by rule before any judge is asked: one phrase over and over."""

import re

_MIN_REPEATS = 3
_WORDS = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+|[\u2600-\u27bf\U0001f000-\U0001faff]")


def is_repetitive(text: str, min_words: int) -> bool:
    """Whether one n-gram, repeated consecutively at least three times, covers half of the words or more.

    Words, not tokens: the digits of 1111 are tokens of their own. In scripts without spaces each character is a word,
    and so is each emoji.
    Texts of fewer than `min_words` never are: `New York, New York, New York` is a list, and 1,000,000,000 a number.
    """
    words = [match.group().casefold() for match in _WORDS.finditer(text)]
    if len(words) < min_words:
        return False
    for n in range(1, len(words) // _MIN_REPEATS + 1):
        run = n
        for place in range(n, len(words)):
            run = run + 1 if words[place] == words[place - n] else n
            covered = run - run % n
            if covered >= _MIN_REPEATS * n and 2 * covered >= len(words):
                return True
    return False
