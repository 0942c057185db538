"""Intervals for accuracies. Questions about one image are not independent, so differences are clustered by image."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A value in [-1, 1] with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def accuracy_interval(correct: Sequence[bool]) -> Interval:
    """Share of right answers, with Wilson's interval. Raises ValueError for no answers."""
    n = len(correct)
    if not n:
        raise ValueError("no answers to take an accuracy of")
    p = sum(correct) / n
    scale = 1 + Z95**2 / n
    centre = (p + Z95**2 / (2 * n)) / scale
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / scale
    return Interval(p, centre - half, centre + half, n)


def paired_interval(first: Sequence[bool], second: Sequence[bool], clusters: Sequence[Hashable]) -> Interval:
    """Mean of second - first over the same questions, with a cluster-robust normal interval.

    Variance of the mean: C / (C - 1) * sum over clusters of (sum of residuals in the cluster)^2 / n^2.
    """
    n = len(first)
    differences = [int(b) - int(a) for a, b in zip(first, second, strict=True)]
    mean = sum(differences) / n
    residuals: dict[Hashable, float] = defaultdict(float)
    for cluster, difference in zip(clusters, differences, strict=True):
        residuals[cluster] += difference - mean
    count = len(residuals)
    variance = count / max(1, count - 1) * sum(r * r for r in residuals.values()) / n**2
    half = Z95 * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half, n)
