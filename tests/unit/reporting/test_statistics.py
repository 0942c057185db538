import math
import random

import pytest

from masters.reporting.statistics import accuracy_interval, kappa_interval, paired_interval, student_quantile


def test_wilsons_interval_by_hand():
    interval = accuracy_interval([True] * 8 + [False] * 2)
    assert interval.value == 0.8
    assert (interval.low, interval.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # statsmodels, method="wilson"


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda: accuracy_interval([]), "no answers"),
        (lambda: paired_interval([], [], []), "no questions"),
        (lambda: kappa_interval([], [], []), "no answers"),
    ],
)
def test_nothing_to_take_an_interval_of(compute, message):
    with pytest.raises(ValueError, match=message):
        compute()


@pytest.mark.parametrize(
    ("degrees", "expected"),  # from a printed table
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045), (120, 1.980), (100_000, 1.960)],
)
def test_quantiles_of_students_t(degrees, expected):
    assert student_quantile(degrees) == pytest.approx(expected, rel=0.01 if degrees < 5 else 5e-4)


ALL, NONE = [True] * 20, [False] * 20
EDGES = {
    # name: (interval, its value, largest low, smallest high): what the data cannot exclude lies inside
    "all right": (accuracy_interval(ALL), 1.0, 0.8390, 1.0),
    "all wrong": (accuracy_interval(NONE), 0.0, 0.0, 0.1610),
    "all right, images apart": (accuracy_interval(ALL, range(20)), 1.0, 0.8390, 1.0),
    "all right, two images": (accuracy_interval(ALL, [i // 10 for i in range(20)]), 1.0, 0.15, 1.0),
    "one image": (accuracy_interval(ALL, [0] * 20), 1.0, 0.0, 1.0),
    "one answer": (accuracy_interval([True], [0]), 1.0, 0.0, 1.0),
    "nothing changed": (paired_interval(ALL, ALL, range(20)), 0.0, -0.12, 0.12),
    "nothing changed, one image": (paired_interval(ALL, ALL, [0] * 20), 0.0, -1.0, 1.0),
    "all gained": (paired_interval(NONE, ALL, range(20)), 1.0, 0.75, 1.0),
    "all lost": (paired_interval(ALL, NONE, range(20)), -1.0, -1.0, -0.75),
    "one gained": (paired_interval(NONE, [True, *NONE[1:]], range(20)), 0.05, -0.05, 0.15),
}


@pytest.mark.parametrize("case", EDGES)
def test_without_spread_an_interval_is_no_point(case):
    interval, value, low, high = EDGES[case]
    assert interval.value == pytest.approx(value)
    assert max(-1, interval.low) == interval.low <= low + 1e-9
    assert min(1, interval.high) == interval.high >= high - 1e-9
    assert interval.low <= value <= interval.high
    assert interval.high - interval.low < 2 or case == "nothing changed, one image"


def draw(rng, n, size, chances, correlation):
    """n outcomes 0, 1, 2, ... with these chances; `size` of them share an image, with an intra-class correlation."""
    found = []
    while len(found) < n:
        weights = chances
        if correlation:
            weights = [rng.gammavariate(chance * (1 / correlation - 1), 1) for chance in chances]
        found += rng.choices(range(len(chances)), weights, k=size)
    return found


GAIN, LOSS = 1, 2
COVERED = [
    # questions, how many share an image, intra-class correlation, chances of (neither, gain, loss) or (wrong, right)
    (200, 1, 0.0, (0.5, 0.5)),
    (200, 4, 0.2, (0.5, 0.5)),
    (200, 4, 0.2, (0.05, 0.95)),
    (1500, 4, 0.2, (0.2, 0.8)),
    (200, 1, 0.0, (0.85, 0.1, 0.05)),
    (200, 4, 0.2, (0.7, 0.2, 0.1)),
    (1500, 4, 0.2, (0.7, 0.2, 0.1)),
]


@pytest.mark.parametrize(("n", "size", "correlation", "chances"), COVERED)
def test_95_of_100_intervals_hold_the_truth(n, size, correlation, chances):
    rng, clusters, hits = random.Random(3), [i // size for i in range(n)], 0
    truth = chances[1] - (chances[2] if len(chances) > 2 else 0)
    for _ in range(800):
        outcomes = draw(rng, n, size, chances, correlation)
        if len(chances) == 2:
            interval = accuracy_interval([o == GAIN for o in outcomes], clusters)
        else:
            interval = paired_interval([o == LOSS for o in outcomes], [o == GAIN for o in outcomes], clusters)
        hits += interval.low <= truth <= interval.high
    assert 0.93 <= hits / 800 <= 0.97


@pytest.mark.parametrize("size", [1, 3])
def test_with_2100_questions_a_gains_interval_is_the_normal_one(size):
    """What is added to help few questions does not show among many: a hundredth of a point or two."""
    outcomes = draw(random.Random(0), 2100, size, (0.75, 0.15, 0.1), 0.2 if size > 1 else 0.0)
    first, second = ([o == kind for o in outcomes] for kind in (LOSS, GAIN))
    interval = paired_interval(first, second, [i // size for i in range(2100)])
    differences = [int(b) - int(a) for a, b in zip(first, second, strict=True)]
    mean, count = sum(differences) / 2100, 2100 // size
    sums = [sum(differences[i : i + size]) - size * mean for i in range(0, 2100, size)]
    half = 1.96 * (count / (count - 1) * sum(s * s for s in sums)) ** 0.5 / 2100
    assert interval.value == pytest.approx(mean)
    assert (interval.low, interval.high) == pytest.approx((mean - half, mean + half), abs=2e-4)


def test_questions_about_one_image_do_not_count_as_independent():
    first, second = [False] * 60, [i // 3 % 2 == 0 for i in range(60)]
    images = [i // 3 for i in range(60)]
    for compute in (lambda c: paired_interval(first, second, c), lambda c: accuracy_interval(second, c)):
        alone, clustered = compute(range(60)), compute(images)
        assert clustered.high - clustered.low > 1.5 * (alone.high - alone.low)


def test_questions_about_one_image_never_count_as_more_than_independent():
    correct = [i % 2 == 0 for i in range(200)]  # every image has one right and one wrong
    clustered, alone = accuracy_interval(correct, [i // 2 for i in range(200)]), accuracy_interval(correct)
    assert alone.low - 0.002 < clustered.low <= alone.low


@pytest.mark.parametrize(
    ("neither", "second", "first", "both", "kappa"),
    [(15, 10, 5, 20, 0.4), (25, 0, 0, 25, 1.0), (0, 25, 25, 0, -1.0), (10, 10, 10, 10, 0.0), (45, 15, 25, 15, 0.1304)],
)
def test_kappa_by_hand(neither, second, first, both, kappa):
    pairs = [(False, False)] * neither + [(False, True)] * second + [(True, False)] * first + [(True, True)] * both
    found = kappa_interval(*zip(*pairs, strict=True), range(len(pairs)))
    assert found.value == pytest.approx(kappa, abs=1e-4)
    assert found.low <= found.value <= found.high


def test_kappa_of_one_verdict_is_not_defined_and_its_interval_is_wide():
    found = kappa_interval([True] * 30, [True] * 30, range(30))
    assert math.isnan(found.value)
    assert found.high - found.low > 0.5


@pytest.mark.parametrize("size", [1, 4])
def test_the_interval_of_kappa_holds_the_true_one(size):
    """Judges that see the answers of a question (a cluster) alike, and differ from each other on a fifth of all questions."""
    rng = random.Random(0)
    held, widths = 0, []
    for _ in range(200):
        first, second, clusters = [], [], []
        for cluster in range(60):
            truth, differs = rng.random() < 0.5, rng.random() < 0.2
            for _ in range(size):
                first.append(truth)
                second.append(truth != differs)
                clusters.append(cluster)
        found = kappa_interval(first, second, clusters)
        held += found.low <= 0.6 <= found.high
        widths.append(found.high - found.low)
    assert held >= 0.9 * 200
    assert sum(widths) / 200 < 0.6
