"""Why a row is not used: rejects with their reason, and rows that the recipe leaves out."""

import math
from typing import Any


class RejectError(ValueError):
    """A row that cannot be used.

    Attributes:
        reason: one short sentence for all rows of the kind, which the summary counts.
        detail: what was found in this row.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class SkipRow(Exception):  # noqa: N818 - nothing is wrong with the row
    """A row that the recipe leaves out by its split (`splits: {train_small: skip}`): it is no reject."""


def shown(value: Any, longest: int = 80) -> str:
    """A short picture of a value, for details: never more than about `longest` characters, all of them printable."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    text = repr(value[: 2 * longest] if isinstance(value, str) else value)
    return text if len(text) <= longest else text[: longest - 3] + "..."
