import math

import pytest
import torch

from masters.algo.reward import advantages, distill_reward

ONE = torch.zeros(4, dtype=torch.long)
ALL = torch.ones(4, dtype=torch.bool)


def test_distill_reward_by_hand():
    reward = distill_reward(torch.tensor([0.1, 0.2, 0.3, 0.5]), ONE, ALL)
    assert reward.tolist() == pytest.approx([1.0, 0.75, 0.5, 0.0])


def test_noise_is_not_stretched_to_full_size():
    divergence = torch.tensor([0.1, 0.1, 0.1, 0.1]) * (1 + 1e-6 * torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert distill_reward(divergence, ONE, ALL).tolist() == [1.0, 1.0, 1.0, 1.0]
    apart = torch.tensor([0.1, 0.1, 0.1, 0.1 * (1 + 2e-4)])
    assert distill_reward(apart, ONE, ALL).tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0], abs=1e-3)


def test_all_zero_divergence_is_a_tie():
    assert distill_reward(torch.zeros(4), ONE, ALL).tolist() == [1.0] * 4


def test_rounding_around_zero_is_a_tie():
    assert distill_reward(torch.tensor([1e-8, -2e-8, 5e-9, 0.0]), ONE, ALL).tolist() == [1.0] * 4


def test_unjudged_responses_are_left_out_of_min_and_max():
    judged = torch.tensor([True, True, True, False])
    reward = distill_reward(torch.tensor([0.2, 0.3, 0.4, 9.0]), ONE, judged)
    assert reward.tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_advantages_by_hand():
    # rewards 2, 1, 1, 0: mean 1, unbiased std sqrt(2/3)
    advantage = advantages(torch.tensor([2.0, 1.0, 1.0, 0.0]), ONE, ALL)
    assert advantage.tolist() == pytest.approx([math.sqrt(1.5), 0.0, 0.0, -math.sqrt(1.5)])


def test_groups_do_not_mix():
    group = torch.tensor([0, 0, 1, 1, 1])
    reward = torch.tensor([0.0, 1.0, 5.0, 7.0, 9.0])
    judged = torch.ones(5, dtype=torch.bool)
    together = advantages(reward, group, judged)
    for index in (0, 1):
        mine = group == index
        alone = advantages(reward[mine], torch.zeros(int(mine.sum()), dtype=torch.long), judged[mine])
        assert torch.allclose(together[mine], alone)
        assert together[mine].sum().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, 1.7])
def test_equal_rewards_give_no_advantage(value):
    assert advantages(torch.full((4,), value), ONE, ALL).tolist() == [0.0] * 4


def test_unjudged_responses_get_no_advantage_and_count_for_nothing():
    judged = torch.tensor([True, False, True, True])
    with_null = advantages(torch.tensor([2.0, 99.0, 1.0, 0.0]), ONE, judged)
    without = advantages(torch.tensor([2.0, 1.0, 0.0]), ONE[:3], ALL[:3])
    assert with_null[1] == 0
    assert torch.allclose(with_null[judged], without)


def test_one_judged_response_is_no_group():
    judged = torch.tensor([True, False, False, False])
    assert advantages(torch.tensor([2.0, 1.0, 1.0, 0.0]), ONE, judged).tolist() == [0.0] * 4
