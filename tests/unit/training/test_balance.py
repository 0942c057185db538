import random

import pytest

from masters.training.balance import deal, efficiency


def lengths(seed, count):
    rng = random.Random(seed)
    return [int(rng.lognormvariate(6.5, 0.9)) + 1 for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ranks", [1, 2, 8])
@pytest.mark.parametrize(("groups", "tokens"), [(1, 0), (4, 0), (8, 3000), (64, 2000)])
def test_every_group_goes_to_one_rank_and_pass_within_the_bounds(seed, ranks, groups, tokens):
    found = lengths(seed, 1 + 7 * seed)
    passes = deal(found, ranks, groups, tokens)
    assert sorted(place for dealt in passes for mine in dealt for place in mine) == list(range(len(found)))
    for dealt in passes:
        assert len(dealt) == ranks
        for mine in dealt:
            assert len(mine) <= groups
            assert len(mine) <= 1 or not tokens or sum(found[place] for place in mine) <= tokens
    assert deal(found, ranks, groups, tokens) == passes
    if not tokens:
        assert len(passes) == -(-len(found) // (ranks * groups))  # as few passes as can be


def test_a_literal():
    assert deal([5, 1, 9, 2, 8, 3], 2, 2) == [[[2, 5], [4, 0]], [[3], [1]]]
    assert deal([5, 1, 9, 2, 8, 3], 2, 1) == [[[2], [4]], [[0], [5]], [[3], [1]]]
    assert deal([5, 1, 9], 2, 8, 6) == [[[2], [0, 1]]]
    assert deal([], 2, 1) == []


def test_efficiency_of_a_literal():
    assert efficiency([[[0], [1]], [[2], []]], [4, 2, 3]) == pytest.approx(9 / 14)
    assert efficiency([[[0]]], [7]) == 1.0


@pytest.mark.parametrize("ranks", [8, 16, 32])
def test_ranks_wait_less_than_when_groups_are_dealt_as_they_come(ranks):
    found = lengths(1, 4 * ranks)
    as_they_come = [[[pass_ * ranks + rank] for rank in range(ranks)] for pass_ in range(4)]
    before, after = efficiency(as_they_come, found), efficiency(deal(found, ranks, 1), found)
    assert after > before + 0.1
