"""Intervals for accuracies. Questions about one image are not independent, so all of them are clustered by image.

Everywhere one observation of each kind is added where a spread is taken: a spread of 0 (all right, nothing changed, one image)
would claim that the next questions cannot come out otherwise. With hundreds of questions it is too little to be seen.
"""

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

    @property
    def in_points(self) -> str:
        """A difference with its bounds, as +1.2 [-0.3, +2.7]."""
        value, low, high = (f"{100 * bound:+.1f}" for bound in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def accuracy_interval(correct: Sequence[bool], clusters: Sequence[Hashable] | None = None) -> Interval:
    """Share of right answers, with Wilson's interval for as many independent answers as these are worth.

    n answers are worth n / deff; the design effect deff, at least 1, is the clustered variance over that of independent answers,
    both with one right and one wrong answer added. The quantile is Student's, with one degree of freedom less than clusters.

    Args:
        correct: of each question.
        clusters: the image of each question; None where questions are independent (Wilson's interval as it is).

    Raises:
        ValueError: for no answers.
    """
    n = len(correct)
    if not n:
        raise ValueError("no answers to take an accuracy of")
    p, size, quantile = sum(correct) / n, float(n), Z95
    if clusters is not None:
        quantile = student_quantile(len(set(clusters)) - 1)
        mean, variance = _clustered([int(c) for c in correct], clusters, (0, 1))
        size /= max(1.0, variance * (n + 1) / (mean * (1 - mean)))
    if math.isinf(quantile):
        return Interval(p, 0.0, 1.0, n)
    scale = 1 + quantile**2 / size
    centre = (p + quantile**2 / (2 * size)) / scale
    half = quantile * math.sqrt(p * (1 - p) / size + quantile**2 / (4 * size * size)) / scale
    # At 0 and 1 a bound is the value itself, but for rounding, and error bars of negative length cannot be drawn.
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), n)


def paired_interval(first: Sequence[bool], second: Sequence[bool], clusters: Sequence[Hashable]) -> Interval:
    """Mean of second - first over the same questions, with Bonett and Price's interval, clustered by image.

    One question won and one lost are added; around the mean of all, the interval is Student's, with one degree of freedom less
    than clusters. It holds the plain mean, which is the value. Raises ValueError for no questions.
    """
    n = len(first)
    if not n:
        raise ValueError("no questions to compare answers to")
    differences = [int(b) - int(a) for a, b in zip(first, second, strict=True)]
    centre, variance = _clustered(differences, clusters, (-1, 1))
    half = student_quantile(len(set(clusters)) - 1) * math.sqrt(variance)
    return Interval(sum(differences) / n, max(-1.0, centre - half), min(1.0, centre + half), n)


def student_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, within 1 % for any number of degrees of freedom; infinite for none.

    From three degrees on Fisher's expansion in 1 / degrees (Abramowitz and Stegun 26.7.5).
    """
    if degrees < 3:
        return (math.inf, 12.706205, 4.302653)[max(0, degrees)]
    z, d = Z95, degrees
    return (
        z
        + (z**3 + z) / (4 * d)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * d**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * d**3)
    )


def _clustered(values: Sequence[int], clusters: Sequence[Hashable], added: tuple[int, int]) -> tuple[float, float]:
    """Mean of the values and the two added ones, each of which is a cluster of its own, and the variance of that mean.

    Variance: C / (C - 1) * sum over clusters of (sum of residuals in the cluster)^2 / n^2.
    """
    n = len(values) + len(added)
    mean = (sum(values) + sum(added)) / n
    residuals: dict[Hashable, float] = defaultdict(float)
    for cluster, value in zip(clusters, values, strict=True):
        residuals[cluster] += value - mean
    squares = [r * r for r in residuals.values()] + [(value - mean) ** 2 for value in added]
    return mean, len(squares) / (len(squares) - 1) * sum(squares) / n**2


def kappa_interval(first: Sequence[bool], second: Sequence[bool], clusters: Sequence[Hashable]) -> Interval:
    """Cohen's kappa of two judges of the same answers, with a jackknife interval, clustered.

    kappa = (p - e) / (1 - e): p, how often they agree; e, how often they would by chance. One answer of each of the four kinds
    is added where the spread is taken; around the kappa of all, the interval is Student's, with one degree of freedom less than
    clusters. The value is nan where both judges say one and the same of every answer: then chance alone would agree, too.

    Raises:
        ValueError: for no answers.
    """
    if not first:
        raise ValueError("no answers that both judged")
    by_cluster: dict[Hashable, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for one, other, cluster in zip(first, second, clusters, strict=True):
        by_cluster[cluster][2 * bool(one) + bool(other)] += 1
    plain = [sum(cells) for cells in zip(*by_cluster.values(), strict=True)]
    parts = [*by_cluster.values(), *([int(i == kind) for i in range(4)] for kind in range(4))]
    total = [cell + 1 for cell in plain]
    without = [_kappa([t - c for t, c in zip(total, part, strict=True)]) for part in parts]
    mean = sum(without) / len(without)
    variance = (len(without) - 1) / len(without) * sum((value - mean) ** 2 for value in without)
    half = student_quantile(len(by_cluster) - 1) * math.sqrt(variance)
    value, centre = _kappa(plain), _kappa(total)
    bounds = [bound for bound in (centre - half, centre + half, value) if not math.isnan(bound)]
    return Interval(value, max(-1.0, min(bounds)), min(1.0, max(bounds)), len(first))


def _kappa(cells: Sequence[int]) -> float:
    """Of the numbers of answers that neither, only the second, only the first, both judges call right."""
    n = sum(cells)
    neither, second, first, both = (cell / n for cell in cells)
    chance = (first + both) * (second + both) + (neither + second) * (neither + first)
    return (neither + both - chance) / (1 - chance) if chance < 1 else math.nan
