import random

import pytest

from masters.benchmarks import Answer, Question, score
from masters.benchmarks.facts import COLUMNS
from masters.benchmarks.intervals import Unit, average, average_gain, gain, mean_interval, value_interval
from masters.reporting.statistics import accuracy_interval, paired_interval
from tests.unit.benchmarks.quickly import Scripted, file_of

OPTIONS = {"A": "red", "B": "green"}


def scored(name, right, clusters=None):
    """A score of a benchmark of single rows with these hits."""
    clusters = clusters or [f"{name}{i}" for i in range(len(right))]
    questions = [Question(str(i), "?", "A", OPTIONS, cluster=c) for i, c in enumerate(clusters)]
    return score(file_of(name, questions), {str(i): Answer("A" if hit else "B") for i, hit in enumerate(right)})


def circular(name, right, clusters=None):
    """A score of questions of two rotations each."""
    clusters = clusters or [f"c{i}" for i in range(len(right))]
    rows = [
        Question(str(i + 1_000_000 * r), "?", "A", OPTIONS, cluster=c) for r in range(2) for i, c in enumerate(clusters)
    ]
    answers = {q.index: Answer("A" if right[int(q.group)] or q.index == q.group else "B") for q in rows}
    return score(file_of(name, rows), answers)


def test_a_scores_interval_is_the_houses():
    right, clusters = [True] * 30 + [False] * 10, [str(i // 2) for i in range(40)]
    assert scored("MMStar", right, clusters).interval == accuracy_interval(right, clusters)
    rotated = circular("MMBench_DEV_EN", right, clusters)
    assert (rotated.interval, rotated.rows) == (accuracy_interval(right, clusters), 80)  # questions, not rows


def test_grades_are_not_taken_for_right_and_wrong():
    units = [Unit(str(i), str(i), 0.5) for i in range(50)]
    found = value_interval(units)
    assert found.value == 0.5
    assert 0.45 < found.low < 0.5 < found.high < 0.55


def test_a_paired_gain_is_the_houses():
    rng = random.Random(0)
    before, after = ([rng.random() < p for _ in range(90)] for p in (0.5, 0.7))
    clusters = [str(i // 3) for i in range(90)]
    found = gain(scored("MMStar", before, clusters), scored("MMStar", after, clusters))
    assert found == paired_interval(before, after, clusters)
    assert found.value == pytest.approx((sum(after) - sum(before)) / 90)
    parts = [(1.0, [float(b) - float(a) for a, b in zip(before, after, strict=True)], clusters)]
    general = mean_interval(parts, (-1, 1))
    assert (general.value, general.low, general.high) == pytest.approx((found.value, found.low, found.high))


def test_a_gain_of_grades_leaves_out_what_one_judge_call_did_not_grade():
    questions = [Question(str(i), "?", "x", cluster=str(i)) for i in range(3)]
    replies = {"p": "0.4", "q": "0.9", "r": "?"}
    judge = Scripted(lambda text, attempt: replies[text.split("hue ")[1][0]]).judge
    first, second = (
        score(file_of("MMVet", questions), {str(i): Answer(f"hue {letter}") for i, letter in enumerate(said)}, judge)
        for said in ("ppp", "qpr")
    )
    found = gain(first, second)
    assert (found.n, found.value) == (2, pytest.approx(0.25))


def test_what_cannot_be_compared_is_refused():
    one, other = scored("MMStar", [True] * 4), scored("BLINK", [True] * 4)
    judged = score(
        file_of("MMStar", [Question(str(i), "?", "A", OPTIONS) for i in range(4)]),
        {str(i): Answer("A") for i in range(4)},
        Scripted(lambda text, attempt: "A").judge,
    )
    nothing = score(file_of("MMStar", [Question("0", "?", "A", OPTIONS)]), {})
    with pytest.raises(ValueError, match="MMStar judged by nobody and BLINK judged by nobody cannot be compared"):
        gain(one, other)
    with pytest.raises(ValueError, match="MMStar judged by nobody and MMStar judged by scripted"):
        gain(one, judged)
    with pytest.raises(ValueError, match=r"MMStar: has no score: 1 of 1 rows have no answer"):
        gain(one, nothing)
    with pytest.raises(ValueError, match="different questions"):
        gain(one, scored("MMStar", [True] * 5))
    with pytest.raises(ValueError, match="Name each benchmark once"):
        average([one, one])
    with pytest.raises(ValueError, match="Name each benchmark once"):
        average([])
    with pytest.raises(ValueError, match="has no score"):
        average([nothing])
    with pytest.raises(ValueError, match="no values"):
        mean_interval([(1.0, [], [])], (0, 1))


def test_the_mean_is_over_columns_and_mmmu_pro_is_one_of_them():
    """40 % and 36 % are 38 %, whatever the parts' sizes; with another column at 50 % the mean is 44 %."""
    standard = scored("MMMU_Pro_10c", [True] * 40 + [False] * 60)
    vision = scored("MMMU_Pro_V", [True] * 18 + [False] * 32)
    stars = scored("MMStar", [True] * 10 + [False] * 10)
    assert average([standard, vision]).value == pytest.approx(0.38)
    assert average([standard, vision, stars]).value == pytest.approx(0.44)
    better = scored("MMStar", [True] * 12 + [False] * 8)
    pairs = [(standard, standard), (vision, vision), (stars, better)]
    assert average_gain(pairs).value == pytest.approx(0.05)
    assert len(COLUMNS) == 13


def test_the_same_images_in_two_benchmarks_do_not_count_as_independent():
    rng = random.Random(1)
    right = [rng.random() < 0.6 for _ in range(300)]
    english = circular("MMBench_DEV_EN", right)
    same, others = (circular("MMBench_DEV_CN", right, [f"{c}{i}" for i in range(300)]) for c in ("c", "d"))
    alike, apart = average([english, same]), average([english, others])
    assert (alike.high - alike.low) / (apart.high - apart.low) == pytest.approx(2**0.5, rel=0.02)


def outcomes_of(rng, n, size, chances, correlation):
    """Outcomes 0, 1, 2; `size` in a row share a cluster, with an intra-class correlation."""
    found = []
    while len(found) < n:
        weights = [rng.gammavariate(chance * (1 / correlation - 1), 1) for chance in chances]
        found += rng.choices(range(3), weights, k=size)
    return found


@pytest.mark.parametrize("n", [200, 1500])
def test_95_of_100_intervals_of_a_mean_gain_hold_the_truth(n):
    """Two benchmarks of n and n / 2 questions, four to a cluster; half of the second one's images are in the first, too."""
    rng, hits = random.Random(5), 0
    clusters = [str(i // 4) for i in range(n)]
    second = [str(i // 4 + n // 16) if i // 4 < n // 16 else f"x{i // 4}" for i in range(n // 2)]
    for _ in range(600):
        drawn = outcomes_of(rng, n, 4, (0.7, 0.2, 0.1), 0.2)
        other = outcomes_of(rng, n // 2, 4, (0.7, 0.2, 0.1), 0.2)[: n // 2]
        shared = n // 16 * 4
        other[:shared] = drawn[shared : 2 * shared]  # the same images, the same answers
        parts = [
            (0.5, [(0.0, 1.0, -1.0)[outcome] for outcome in outcomes], names)
            for outcomes, names in ((drawn, clusters), (other, second))
        ]
        found = mean_interval(parts, (-1, 1))
        hits += found.low <= 0.1 <= found.high
    assert 0.93 <= hits / 600 <= 0.97


def grades_of(rng, n, size):
    """n grades in steps of 0.1; `size` of them in a row are of one image, and alike."""
    levels = [rng.betavariate(4, 2) for _ in range(n // size)]
    return [round(min(1, max(0, rng.gauss(level, 0.05))), 1) for level in levels for _ in range(size)]


@pytest.mark.parametrize("n", [200, 1500])
def test_95_of_100_intervals_of_a_mean_grade_hold_the_truth(n):
    rng, hits, truth = random.Random(6), 0, sum(grades_of(random.Random(7), 200_000, 1)) / 200_000
    for _ in range(600):
        grades = grades_of(rng, n, 4)
        found = value_interval([Unit(str(i), str(i // 4), grade) for i, grade in enumerate(grades)])
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / 600 <= 0.97
