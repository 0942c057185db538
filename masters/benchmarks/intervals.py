"""Intervals of scores: of one, of the paired gain of one over another, and of means over benchmarks.

All are clustered by image, which holds every rotation of a question. Two benchmarks with the same images (MMBench in English and
Chinese) are not independent either: the mean's interval counts an image as one cluster, whatever benchmarks it is in.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from masters.benchmarks.facts import BENCHMARKS
from masters.reporting.statistics import Interval, accuracy_interval, paired_interval, student_quantile

if TYPE_CHECKING:
    from masters.benchmarks.scoring import Score


@dataclass(frozen=True)
class Unit:
    """What a score is the mean of: a row, or a question with all its rotations. `value` is in [0, 1]."""

    key: str
    cluster: str
    value: float


def value_interval(units: Sequence[Unit]) -> Interval:
    """Mean with its interval: Wilson's, clustered, where all values are 0 or 1. Raises ValueError for no units."""
    values, clusters = [unit.value for unit in units], [unit.cluster for unit in units]
    if all(value in (0, 1) for value in values):
        return accuracy_interval([value == 1 for value in values], clusters)
    return mean_interval([(1.0, values, clusters)], (0, 1))


def gain(baseline: "Score", score: "Score") -> Interval:
    """Mean of score - baseline over the units of both, in [-1, 1], paired.

    Raises:
        ValueError: for scores of different benchmarks or judges, one without a value, or different questions.
    """
    differences, clusters = _differences(baseline, score)
    if all(difference in (-1, 0, 1) for difference in differences):
        before, after = [d < 0 for d in differences], [d > 0 for d in differences]
        return paired_interval(before, after, clusters)
    return mean_interval([(1.0, differences, clusters)], (-1, 1))


def average(scores: Sequence["Score"]) -> Interval:
    """Plain mean over the paper's columns; files of one column (the two parts of MMMU-Pro) share it alike.

    Raises:
        ValueError: for no scores, a score without a value, or two of one benchmark.
    """
    return mean_interval(
        [
            (weight, [unit.value for unit in score.units], [unit.cluster for unit in score.units])
            for weight, score in zip(_weights(scores), scores, strict=True)
        ],
        (0, 1),
    )


def average_gain(pairs: Sequence[tuple["Score", "Score"]]) -> Interval:
    """Mean of the gains of (baseline, score) over the paper's columns, as `average`. Raises ValueError as it and `gain` do."""
    weights = _weights([score for _, score in pairs])
    parts = [(weight, *_differences(*pair)) for weight, pair in zip(weights, pairs, strict=True)]
    return mean_interval(parts, (-1, 1))


def mean_interval(parts: Sequence[tuple[float, Sequence[float], Sequence[str]]], bounds: tuple[int, int]) -> Interval:
    """Weighted sum of the parts' means, with a clustered interval.

    To each part one observation at either bound is added where the spread is taken, each a cluster of its own: with a spread of 0
    the next answers could not come out otherwise. Around the mean of all, the interval is Student's, with one degree of freedom
    less than clusters; it holds the plain mean, which is the value. For one part this is
    `masters.reporting.statistics.paired_interval` for values of any kind.

    Args:
        parts: weight, values in `bounds`, and the cluster of each value; weights add up to 1.
        bounds: of values.

    Raises:
        ValueError: for no parts, or one without values.
    """
    if not parts or not all(values for _, values, _ in parts):
        raise ValueError("no values to take a mean of")
    low, high = bounds
    centre = plain = 0.0
    residuals: dict[str, float] = defaultdict(float)
    added: list[float] = []
    for weight, values, clusters in parts:
        count = len(values) + 2
        mean = (sum(values) + low + high) / count
        for value, cluster in zip(values, clusters, strict=True):
            residuals[cluster] += weight * (value - mean) / count
        added += [weight * (bound - mean) / count for bound in bounds]
        centre += weight * mean
        plain += weight * sum(values) / len(values)
    squares = [residual**2 for residual in (*residuals.values(), *added)]
    variance = len(squares) / (len(squares) - 1) * sum(squares)
    half = student_quantile(len(residuals) - 1) * math.sqrt(variance)
    below, above = min(plain, centre - half), max(plain, centre + half)
    return Interval(plain, max(float(low), below), min(float(high), above), sum(len(values) for _, values, _ in parts))


def _weights(scores: Sequence["Score"]) -> list[float]:
    """Of each score: its share of its column, and of all columns."""
    names = [score.benchmark for score in scores]
    if not scores or len(set(names)) < len(names):
        raise ValueError(f"mean over benchmarks: {', '.join(names) or 'none'}. Name each benchmark once.")
    for score in scores:
        _check_value(score)
    columns = [BENCHMARKS[name].column for name in names]
    held = Counter(columns)
    return [1 / (len(held) * held[column]) for column in columns]


def _check_value(score: "Score") -> None:
    if score.value is None:
        raise ValueError(
            f"{score.benchmark}: has no score: {score.remarks[-1] if score.remarks else 'nothing was answered'}"
        )


def _differences(baseline: "Score", score: "Score") -> tuple[list[float], list[str]]:
    """Of the units that both have a value of, in the order of the baseline's, and their clusters."""
    if (baseline.benchmark, baseline.judge) != (score.benchmark, score.judge):
        names = [f"{one.benchmark} judged by {one.judge or 'nobody'}" for one in (baseline, score)]
        raise ValueError(f"{names[0]} and {names[1]} cannot be compared. Take one benchmark, and one judge for both.")
    for one in (baseline, score):
        _check_value(one)
    after = {unit.key: unit.value for unit in score.units}
    if baseline.rows != score.rows or not any(unit.key in after for unit in baseline.units):
        raise ValueError(
            f"{score.benchmark}: the two scores are of different questions. Ask both models with one file."
        )
    common = [unit for unit in baseline.units if unit.key in after]
    return [after[unit.key] - unit.value for unit in common], [unit.cluster for unit in common]
