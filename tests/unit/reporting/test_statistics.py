import random

import pytest

from masters.reporting.statistics import accuracy_interval, paired_interval


def test_wilsons_interval_by_hand():
    interval = accuracy_interval([True] * 8 + [False] * 2)
    assert interval.value == 0.8
    assert (interval.low, interval.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # statsmodels, method="wilson"


def test_perfect_scores_have_an_interval():
    interval = accuracy_interval([True] * 20)
    assert interval.low == pytest.approx(0.8389, abs=1e-4)
    assert interval.high == pytest.approx(1.0)


def test_no_answers():
    with pytest.raises(ValueError, match="no answers"):
        accuracy_interval([])


def test_the_paired_interval_of_independent_questions_is_the_normal_one():
    rng = random.Random(0)
    first, second = ([rng.random() < p for _ in range(500)] for p in (0.5, 0.6))
    interval = paired_interval(first, second, range(500))
    differences = [int(b) - int(a) for a, b in zip(first, second, strict=True)]
    mean = sum(differences) / 500
    se = (sum((d - mean) ** 2 for d in differences) / 499 / 500) ** 0.5
    assert interval.value == pytest.approx(mean)
    assert interval.high - interval.value == pytest.approx(1.96 * se, rel=1e-3)


def test_questions_about_one_image_do_not_count_as_independent():
    first, second = [False] * 60, [i // 3 % 2 == 0 for i in range(60)]
    alone, clustered = (
        paired_interval(first, second, range(60)),
        paired_interval(first, second, [i // 3 for i in range(60)]),
    )
    assert clustered.high - clustered.low > 1.6 * (alone.high - alone.low)


def test_about_95_of_100_intervals_hold_the_truth():
    rng, hits = random.Random(1), 0
    for _ in range(400):
        first = [rng.random() < 0.5 for _ in range(200)]
        second = [rng.random() < 0.6 for _ in range(200)]
        interval = paired_interval(first, second, range(200))
        hits += interval.low <= 0.1 <= interval.high
    assert 0.92 < hits / 400 < 0.98
