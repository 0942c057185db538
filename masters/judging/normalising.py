"""One form for answers that are written in several ways. What changes the meaning of an answer is never dropped."""

import re
import unicodedata

_SAME = str.maketrans(
    dict.fromkeys("‐‑‒–−", "-") | dict.fromkeys("‘’ʼ", "'") | dict.fromkeys("“”„", '"') | {"⁄": "/", "∕": "/", "∶": ":"}
)
_SELECTORS = range(0xFE00, 0xFE10)
_POWER = re.compile("[⁰¹²³⁴-⁹⁺⁻]+")
_VULGAR_FRACTION = re.compile("(?<=\\d)(?=[¼-¾⅐-⅞])")
_BOLD = re.compile(r"(?<!\w)(\*{1,3}|`)(?=\S)([^*`]+)(?<=\S)\1(?!\w)")

_THE = re.compile(r"(?<![^\s\"'(])[Tt](?:he|HE)\s+(?=\S)")
_A = re.compile(
    r"(?:(?<![^\s\"'(])(?:an?|An|AN)|^A)\s+(?!(?:is|because|since|as|and|or)\b)(?=[^\W\d_]{2})"  # a capital A may be a name
)
_SUFFIXES = {"k": "thousand", "K": "thousand", "M": "million", "B": "billion"}  # m is a metre
_SUFFIX = re.compile(r"(?<=\d)[kKMB]\b")
_STEPS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\b((?:[a-z]\.){2,})", lambda m: m[1].replace(".", "")),  # u.s.
        (r"(?<![\d.,])([1-9]\d{0,2}(?:,\d{3})+)(?!\d|,\d)", lambda m: m[1].replace(",", "")),  # thousands
        (r"(?<![\w.)])\.(?=\d)", "0."),  # .5
        (r"(?<=\d)\s+%", "%"),
        (r"([$€£¥₹])\s+(?=[-+]?\d)", r"\1"),
        (r"<=", "≤"),
        (r">=", "≥"),
        (r"!=", "≠"),
        (r"\s*([=<>≠≤≥≈/×÷^])\s*", r"\1"),
        (r"(?<=\d)\s*:\s*(?=\d)", ":"),
        (r"(?<=\d)(?=[a-zµ°])(?!e[-+]?\d|(?:[nsxyz]|st|nd|rd|th)\b)", " "),  # 10cm, but not 1e3, 1950s, 5th, 5x
        (r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})", " "),  # top-left
        (r"\(([^()\[\]]*)\)", r" \1 "),  # not [0,1)
        (r"[.,](?!\d)|(?<!\d)[.,]|(?<!\d):|:(?!\d)", " "),
        (r"[?;…¿¡—。、「」『』【】《》·]|(?<!\d)!", " "),
        (r"(?<![\w)])['\"]|(?<=[^\W\d]{2})['\"](?!\w)|(?<=[^\w\s])['\"]", " "),
        (r"\s&\s", " and "),
    )
)
_PERCENT = re.compile(r"(?<=\d)\s*per\s?cent\b")
_MINUS = re.compile(r"(?<![^\s])(?<!\d )(?:minus|negative)\s+(?=\d)")

_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
          "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_SMALL = {word: value for value, word in enumerate(_UNITS)} | {w: 10 * v for v, w in enumerate(_TENS, 2)}
_WORD = rf"(?:{'|'.join([*reversed(_UNITS), *_TENS, *_SCALES, 'hundred'])})"
_RUN = rf"(?:(?:hundred|{'|'.join(_SCALES)}) and )?{_WORD}"
_SPELLED = re.compile(rf"(?<![\w-])(?<!\d ){_RUN}(?: {_RUN})*(?![\w-])")


def plain(text: str) -> str:
    """NFKC without invisible characters and bold marks; one minus, one apostrophe; 10² is 10^2 and 5½ is 5 1/2."""
    text = "".join(c for c in text if unicodedata.category(c) != "Cf" and ord(c) not in _SELECTORS)
    text = _VULGAR_FRACTION.sub(" ", _POWER.sub(lambda m: "^" + m.group(), text))
    return _BOLD.sub(r"\2", unicodedata.normalize("NFKC", text).translate(_SAME)).strip()


def tidy(text: str) -> str:
    """`plain`, in small letters, without articles and punctuation that ends or separates; number words stay.

    Signs, relations, currencies, per cent and brackets of intervals stay: `x<5`, `3:4`, `$5`, `C#`. An answer of nothing
    but punctuation stays as it is.
    """
    text = _unwrapped(plain(text))
    tidied = _A.sub("", _THE.sub("", _SUFFIX.sub(lambda m: " " + _SUFFIXES[m[0]], text))).casefold()
    for pattern, replacement in _STEPS:
        tidied = pattern.sub(replacement, tidied)
    tidied = " ".join(tidied.split())
    return _signs(tidied) or text.casefold()


def normalise(text: str) -> str:
    """`tidy`, with numbers in digits: `Twenty-five dogs.` is `25 dogs`; a number alone has no `.0`."""
    digits = _signs(_SPELLED.sub(_in_digits, tidy(text)))
    return digits.split(".")[0] if re.fullmatch(r"-?\d+\.00?", digits) else digits


def spelled_numbers(tidied: str) -> list[str]:
    """Number words in a text from `tidy`, without `one`, which is mostly a pronoun."""
    return [match.group() for match in _SPELLED.finditer(tidied) if match.group() != "one"]


def _unwrapped(text: str) -> str:
    """Without quotes, or the dollars of a formula, around the whole."""
    while match := re.fullmatch(r"(['\"$])([^'\"$]+)\1\.?", text):
        text = match[2].strip()
    return text


def _signs(text: str) -> str:
    return _MINUS.sub("-", _PERCENT.sub("%", text))


def _in_digits(match: re.Match[str]) -> str:
    """The value of a run of number words, or the run as it is where it is no number (`one two`, `nineteen fifty`)."""
    total, part, last, scale = 0, 0, "", 10**12
    for word in match.group().replace(" and ", " ").split():
        if word in _SCALES:
            if _SCALES[word] >= scale or (not part and total):
                return match.group()
            scale, total, part = _SCALES[word], total + (part or 1) * _SCALES[word], 0
        elif word == "hundred":
            if part >= 10 or last == "zero":
                return match.group()
            part = (part or 1) * 100
        else:
            if last in _UNITS or (last in _TENS and not 0 < _SMALL[word] < 10):
                return match.group()
            part += _SMALL[word]
        last = word
    return str(total + part)
