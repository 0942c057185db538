from decimal import Decimal
from itertools import pairwise

import pytest

from masters.algo.schedule import level_index, level_name, mask_ratios, ratio_key


def test_the_papers_schedule():
    assert [ratio_key(r) for r in mask_ratios(Decimal("0.2"), Decimal("0.05"))] == [
        "0.20",
        "0.15",
        "0.10",
        "0.05",
        "0.00",
    ]


@pytest.mark.parametrize(
    ("r_max", "step", "levels"),
    [
        ("0.2", "0.05", 5),
        ("0.4", "0.05", 9),
        ("0.3", "0.1", 4),
        ("0.6", "0.15", 5),
        ("0.7", "0.1", 8),
        ("1", "0.001", 1001),
    ],
)
def test_ratios_are_exact_where_floats_drift(r_max, step, levels):
    ratios = mask_ratios(Decimal(r_max), Decimal(step))
    assert len(ratios) == levels
    assert ratios[-1] == 0
    assert all(a - b == Decimal(step) for a, b in pairwise(ratios))


def test_an_unmasked_teacher_has_one_level_whatever_the_step():
    assert mask_ratios(Decimal(0), Decimal("0.07")) == (Decimal(0),)


def test_a_step_that_does_not_fit_is_refused_with_ones_that_do():
    with pytest.raises(ValueError, match=r"0\.2 / 0\.06 is not a whole number of steps\. Use 0\.05 \(5 levels\)\."):
        mask_ratios(Decimal("0.2"), Decimal("0.06"))
    with pytest.raises(ValueError, match=r"Use 0\.5 \(2 levels\) or 0\.25 \(3 levels\)"):
        mask_ratios(Decimal("0.5"), Decimal("0.3"))


def test_levels_cover_all_samples_in_order_and_end_at_zero_masking():
    levels = [level_index(position, 12, 5) for position in range(12)]
    assert levels == sorted(levels)
    assert levels[0] == 0
    assert levels[-1] == 4
    assert max(levels.count(i) for i in range(5)) - min(levels.count(i) for i in range(5)) <= 1


@pytest.mark.parametrize(
    ("ratio", "key"), [("0.2", "0.20"), ("0", "0.00"), ("0.125", "0.125"), ("1", "1.00"), ("0.050", "0.05")]
)
def test_ratios_are_written_one_way(ratio, key):
    assert ratio_key(Decimal(ratio)) == key
    assert level_name("big", Decimal(ratio)) == f"big@r{key}"
