"""The option that an answer to a multiple-choice question names: rules only, no judge and no guess.

They follow what evaluation harnesses agree on, without their known faults: an article is no option A, a letter needs a
word boundary, full-width and Chinese text count, and what is denied ("not B") is not chosen.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from masters.judging.parser import spoken

REFUSED = "Z"
"""What `resolve` gives for a refusal, unless Z is an option."""

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_AROUND_LETTERS = re.compile(rf"(?<=[{_CJK}])(?=[A-Z])|(?<=[A-Z])(?=[{_CJK}])")
_SEPARATORS = str.maketrans(dict.fromkeys("。、「」『』【】《》〈〉・", " ") | {"‘": "'", "’": "'"})
_PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_ARTICLE = re.compile(r"[AI](?=[^\S\n]+(?!(?:is|because|since|as|and|or)\b)[a-z])")
_DECLARED = re.compile(r"(?i:answer\s+is)\s+\**([A-Z])(?![^\W_])")
_DENIED = r"(?:\b(?:not|never|neither|nor|except)|n't)\s+(?:(?:be|an?|the|option|answer|choice)\s+)*\**"
_LAST_WORDS = 4


def lettered(options: Sequence[str]) -> dict[str, str]:
    """Options by letter, from A.

    Raises:
        ValueError: for more options than letters.
    """
    if len(options) > len(ascii_uppercase):
        raise ValueError(f"options: {len(options)} are more than the 26 letters; split the question, or ask for text")
    return dict(zip(ascii_uppercase, options, strict=False))


def resolve(response: str, options: Mapping[str, str]) -> str | None:
    """The letter that a response chooses, REFUSED, or None where it names none or more than one.

    In this order: a refusal; exactly one option letter, first seen among the last four words; the first "answer is X"; the
    text of exactly one option, in an answer at most twice as long as all options together.

    Args:
        response: as generated. Only what follows the last </think> counts; an unclosed <think> resolves to nothing.
        options: text by capital letter.
    """
    said = spoken(response)
    if said is None:
        return None
    text = _plain(said)
    if any(refusal in text for refusal in _REFUSALS):
        return None if REFUSED in options else REFUSED
    letters = _without_other_capitals(text, options)
    words = letters.translate(_PUNCTUATION).split()
    if words == [REFUSED]:
        return REFUSED
    chosen = _one_letter(words, options) or _declared(letters, options)
    if chosen:
        return None if re.search(rf"{_DENIED}\(?{chosen}(?!\w)", text) else chosen
    return _one_text(text.casefold(), options)


def label_letter(label: str, options: Mapping[str, str]) -> str | None:
    """The letter that a label stands for, or None. It is a letter, the text of one option, or names one as answers do."""
    label = label.strip()
    if label in options:
        return label
    same = [letter for letter, text in options.items() if _folded(text) == _folded(label)]
    letter = same[0] if len(same) == 1 else resolve(label, options)
    return letter if letter in options else None


def _plain(text: str) -> str:
    """One writing of an answer, an option or a label: full-width signs narrow, a letter apart from Chinese words."""
    return _AROUND_LETTERS.sub(" ", unicodedata.normalize("NFKC", text).translate(_SEPARATORS))


def _folded(text: str) -> str:
    return _plain(text).casefold().strip()


def _without_other_capitals(text: str, options: Mapping[str, str]) -> str:
    """The answer without capitals that are no choice: articles, and letters of option texts such as "Vitamin A"."""
    for option in sorted(map(_plain, options.values()), key=len, reverse=True):
        if len(option) > 1 and re.search(r"(?<!\w)[A-Z](?!\w)", option):
            text = text.replace(option, " ")
    return _ARTICLE.sub(lambda match: match.group().lower(), text)


def _one_letter(words: Sequence[str], options: Mapping[str, str]) -> str | None:
    named = {word for word in words if word in options}
    if len(named) != 1:
        return None
    letter = named.pop()
    return letter if words.index(letter) >= len(words) - _LAST_WORDS else None


def _declared(text: str, options: Mapping[str, str]) -> str | None:
    return next((match[1] for match in _DECLARED.finditer(text) if match[1] in options), None)


def _one_text(text: str, options: Mapping[str, str]) -> str | None:
    if len(text) > 2 * sum(len(option) for option in options.values()):
        return None
    patterns = {letter: _within(option) for letter, option in options.items() if option.strip()}
    named = [letter for letter, pattern in patterns.items() if re.search(pattern, text)]
    if len(named) != 1 or re.search(_DENIED + patterns[named[0]], text):
        return None
    return named[0]


def _within(option: str) -> str:
    """A pattern for an option's text that is no part of a longer Latin word or number."""
    wanted = _folded(option)
    before, after = r"(?<![0-9a-zà-ɏ])", r"(?![0-9a-zà-ɏ])"
    if wanted[0].isdigit():
        before += r"(?<!\d,)(?<![-+−.])"
    if wanted[-1].isdigit():
        after += r"(?![.,]\d)"
    return f"{before}{re.escape(wanted)}{after}"
