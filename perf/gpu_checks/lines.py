"""Lines of the table: a check with its bound and verdict, or a time beside its rival's."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

RIGHT, WRONG, NO_VERDICT = "right", "WRONG", ""
COLUMNS = ("check", "compared with", "measured", "bound", "verdict")


@dataclass(frozen=True)
class Line:
    """What was looked at, what it was compared with, and what came out; times have neither bound nor verdict."""

    check: str
    against: str
    measured: str
    bound: str
    verdict: str

    def dumps(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))


def check(name: str, against: str, **found: tuple[float, float]) -> Line:
    """A line from (measured, bound) of each quantity; right where none is above its bound. NaN never is."""
    right = all(measured <= bound for measured, bound in found.values())
    parts = {part.replace("_", " "): pair for part, pair in found.items()}
    return Line(
        name,
        against,
        ", ".join(f"{part} {measured:.2g}" for part, (measured, _) in parts.items()),
        ", ".join(f"{bound:.2g}" for _, bound in parts.values()),
        RIGHT if right else WRONG,
    )


def timing(name: str, against: str, measured: str) -> Line:
    """A line without a verdict: machines differ."""
    return Line(name, against, measured, "", NO_VERDICT)


def table(lines: Iterable[Line]) -> str:
    """Checks first, then times, in columns; behind what was measured of a time nothing follows, so that it may be wide."""
    ordered = sorted(lines, key=lambda line: line.verdict == NO_VERDICT)
    rows = [COLUMNS, *(tuple(asdict(line).values()) for line in ordered)]
    counted = [[row for row in rows if column < 2 or row[-1]] for column in range(len(COLUMNS))]
    widths = [max(len(row[column]) for row in some) for column, some in enumerate(counted)]
    written = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([written[0], "-" * len(written[0]), *written[1:]])
