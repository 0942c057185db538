"""Numerals as metrics read them: a whole text that is one number, in plain or scientific notation."""

import re
from decimal import Decimal

_NUMERAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?", re.ASCII)


def decimal(text: str) -> Decimal | None:
    """The number that a text consists of; None for any other text: thousands separators, units, nan."""
    stripped = text.strip()
    return Decimal(stripped) if _NUMERAL.fullmatch(stripped) else None
