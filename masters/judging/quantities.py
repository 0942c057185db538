"""Numbers in answers: the one quantity that a text names, or None. Every doubt is None."""

import re
from dataclasses import dataclass
from decimal import Decimal

from masters.judging.normalising import normalise, spelled_numbers, tidy

_CURRENCIES = "$€£¥₹"
_SCALES = {"hundred": 2, "thousand": 3, "mn": 6, "million": 6, "bn": 9, "billion": 9, "trillion": 12}
_UNITS = {"dollar": "$", "euro": "€", "degree": "°"}
_NO_UNIT = {"is", "are", "was", "were", "of", "as", "for", "at", "on", "to", "total"}
_DECIMAL = r"\d+(?:\.\d+)?(?:e[-+]?\d{1,3})?"
_FORMS = (
    (re.compile(_DECIMAL), str),
    (re.compile(r"[1-9]\d{0,2}(?: \d{3})+"), lambda text: text.replace(" ", "")),  # 10 000
)
_INEXACT_FORMS = (
    (re.compile(r"\d+,\d+"), lambda text: text.replace(",", ".")),  # 12,5; thousands lost their comma before
    (re.compile(r"\d{1,3}(?:\.\d{3})+,\d+"), lambda text: text.replace(".", "").replace(",", ".")),  # 1.234,5
)
_FRACTION = re.compile(r"(\d+)/(\d*[1-9]\d*)")
_WHOLE = re.compile(
    rf"([-+]?)([{_CURRENCIES}]?)([-+]?)(\d[\d.,/ ]*(?<! )(?:e[-+]?\d{{1,3}})?)(?![\d.,/])((?:[ %°{_CURRENCIES}][^\d\s]*)?)"
)
_DIGITS = re.compile(r"\d(?:[\d.,/:]*\d)?(?:e[-+]?\d{1,3}(?!\d))?")
_BEFORE = re.compile(rf"(?:^|[\s=~≈({{\"])([-+]?)([{_CURRENCIES}]?)([-+]?)$")
_AFTER = re.compile(rf"(?:$|[\s%°{_CURRENCIES}\])}}'\"])")
_QUALIFIED = re.compile(
    r"\b(?:not|never|no|neither|nor|or|cannot|except|than|without|between|minus|negative|more|less|fewer|half|dozen|lakh|crore)\b"
    r"|n't\b|[<>≤≥≠±]|(?:^|\s)-\s|\d and (?:quarter|third|up|above|over|below|under)\b"
    r"|\b(?:at least|at most|up to|over|under|above|below|before|after|until|since)\s+[-+$€£¥₹]?\d"
)


@dataclass(frozen=True)
class Quantity:
    """A value, and the first word or sign of what it counts: `%`, `$`, `cm`; empty where nothing is said."""

    value: Decimal
    unit: str


def quantity(text: str, *, exact: bool) -> Quantity | None:
    """The only number of a text, with its unit.

    Spelled-out numbers, 10 000, and unless `exact` 1/2 and 12,5, are read only where the text is nothing but a number and a
    unit; digits also in a sentence. Two numbers, `more than 5`, `not 5`, `B12`, `5th`, `1950s`, `5x` are no quantity.
    """
    whole = _WHOLE.fullmatch(normalise(text))
    value = _read(whole[4], exact) if whole and not _QUALIFIED.search(whole[5]) else None
    if whole and value is not None:
        return _quantity(value, (whole[1], whole[2], whole[3]), whole[5])
    return _in_sentence(tidy(text))


def close(one: Quantity, other: Quantity, tolerance: float) -> bool:
    """Whether `one` is `other` within a tolerance relative to `other`. A unit may be missing, but not be another one.

    With a tolerance, 0.12 is 12 % too; without one, per cent must be said by both or neither.
    """
    if one.unit and other.unit and one.unit != other.unit:
        return False
    percents = (one.unit == "%") - (other.unit == "%")
    if percents and not tolerance:
        return False
    values = [one.value, one.value / 100 if percents > 0 else one.value * 100] if percents else [one.value]
    return any(abs(value - other.value) <= Decimal(str(tolerance)) * abs(other.value) for value in values)


def _in_sentence(tidied: str) -> Quantity | None:
    found = list(_DIGITS.finditer(tidied))
    if len(found) != 1 or spelled_numbers(tidied) or _QUALIFIED.search(tidied):
        return None
    start, end = found[0].span()
    before, after = _BEFORE.search(tidied[:start]), _AFTER.match(tidied[end:])
    if not before or not after or not re.fullmatch(_DECIMAL, found[0].group()):
        return None
    return _quantity(Decimal(found[0].group()), before.groups(), tidied[end:])


def _read(digits: str, exact: bool) -> Decimal | None:
    for form, as_decimal in _FORMS if exact else (*_FORMS, *_INEXACT_FORMS):
        if form.fullmatch(digits):
            return Decimal(as_decimal(digits))
    fraction = None if exact else _FRACTION.fullmatch(digits)
    return Decimal(fraction[1]) / Decimal(fraction[2]) if fraction else None


def _quantity(value: Decimal, before: tuple[str, ...], rest: str) -> Quantity | None:
    """Sign, scale and unit put on; before: sign, currency, sign."""
    words = re.findall(rf"°\s?[cf]?|[%{_CURRENCIES}]|[^\s%]+", rest)
    if words and words[0] in _SCALES:
        value = value.scaleb(_SCALES[words.pop(0)])
    unit = words[0] if words and words[0] not in _NO_UNIT else ""
    singular = unit[:-1] if len(unit) > 3 and unit.endswith("s") else unit
    return Quantity(-value if "-" in before else value, before[1] or _UNITS.get(singular, singular))
