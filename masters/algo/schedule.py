"""Mask ratios, levels and the order of the curriculum (Eq. 3). Plain Python, exact decimal arithmetic."""

from decimal import Decimal
from fractions import Fraction

MOST_STEPS = 1000
"""Of one teacher: far beyond what samples could tell apart, and small enough to be written down."""


def mask_ratios(r_max: Decimal, step: Decimal) -> tuple[Decimal, ...]:
    """The M ratios of one teacher, from `r_max` down to exactly 0 in steps of `step`.

    M = r_max / step + 1 must be whole. `r_max` = 0 gives the single ratio 0 (an unmasked teacher), whatever the step.

    Raises:
        ValueError: if there are more than MOST_STEPS steps, or M is not whole; the message names steps near `step` that fit.
    """
    if r_max == 0:
        return (Decimal(0),)
    if r_max > step * MOST_STEPS:
        raise ValueError(f"r_max {r_max} / {step} is more than {MOST_STEPS} steps. Use a larger mask_step.")
    quotient = Fraction(r_max) / Fraction(step)
    if quotient.denominator != 1:
        raise ValueError(f"r_max {r_max} / {step} is not a whole number of steps. {_remedy(r_max, quotient)}")
    return tuple(r_max - step * i for i in range(int(quotient) + 1))


def _remedy(r_max: Decimal, quotient: Fraction) -> str:
    counts = sorted({max(1, int(quotient)), int(quotient) + 1})
    fitting = [(Fraction(r_max) / n, n + 1) for n in counts]
    exact = [f"{float(step):g} ({levels} levels)" for step, levels in fitting if _terminates(step)]
    return f"Use {' or '.join(exact)}." if exact else "Use r_max divided by a whole number."


def _terminates(value: Fraction) -> bool:
    """Whether the fraction can be written as a finite decimal."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def level_index(position: int, total: int, levels: int) -> int:
    """floor(position * M / N): which of the M levels the sample at `position` of the seeded permutation meets.

    This is Eq. 3 with i in {0, ..., N-1}; as printed in the paper, i = I would give a ratio of -s.
    """
    assert 0 <= position < total
    return position * levels // total


def ratio_key(ratio: Decimal) -> str:
    """How a ratio is written everywhere: at least two decimals, no drift (`0.20`, `0.125`, `0.00`)."""
    text = format(ratio.normalize(), "f")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.ljust(2, '0')}"


def level_name(teacher: str, ratio: Decimal) -> str:
    """The name of a level, which is also the author of what it generates: `big@r0.20`."""
    return f"{teacher}@r{ratio_key(ratio)}"
