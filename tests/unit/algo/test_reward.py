import math

import pytest
import torch

from masters.algo.reward import TIE, TIE_BF16, advantages, distill_reward, shared_divergence

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


@pytest.mark.parametrize(
    ("tie", "spread", "expected"),
    [
        (TIE, 0.9e-4, [1.0, 1.0, 1.0, 1.0]),
        (TIE, 1.2e-4, [1.0, 1.0, 1.0, 0.0]),
        (TIE, 1.2e-3, [1.0, 1.0, 1.0, 0.0]),
        (TIE_BF16, 1.2e-3, [1.0, 1.0, 1.0, 1.0]),
        (TIE_BF16, 1.9e-3, [1.0, 1.0, 1.0, 1.0]),
        (TIE_BF16, 2.2e-3, [1.0, 1.0, 1.0, 0.0]),
    ],
)
def test_what_counts_as_tied_depends_on_the_precision_of_the_forwards(tie, spread, expected):
    divergence = torch.tensor([0.1, 0.1, 0.1, 0.1 * (1 + spread)])
    assert distill_reward(divergence, ONE, ALL, tie).tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("responses", "groups", "expected"),
    [
        ([[5, 6], [5, 6], [7]], [0, 0, 0], [0, 0, 2]),
        ([[7], [5, 6], [5, 6]], [0, 0, 0], [0, 1, 1]),
        ([[5, 6], [7], [5, 6], [7]], [0, 0, 0, 0], [0, 1, 0, 1]),
        ([[5, 6], [5], [5, 6, 6], [6, 5]], [0, 0, 0, 0], [0, 1, 2, 3]),  # a prefix, a longer one, another order
        ([[5], [5, 0], [0, 5]], [0, 0, 0], [0, 1, 2]),  # token 0 is a token
        ([[5, 6], [5, 6], [5, 6]], [0, 1, 1], [0, 1, 1]),  # other questions, other responses
        ([[5]], [0], [0]),
    ],
)
def test_equal_responses_of_a_group_have_the_divergence_of_the_first(responses, groups, expected):
    divergence = torch.tensor([0.1 * (j + 1) for j in range(len(responses))])
    tokens = torch.tensor([token for response in responses for token in response])
    index = torch.repeat_interleave(torch.arange(len(responses)), torch.tensor([len(r) for r in responses]))
    shared = shared_divergence(divergence, tokens, index, torch.tensor(groups))
    assert torch.equal(shared, divergence[expected])


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


def test_advantages_of_nearly_equal_rewards_sum_to_zero():
    """Else the value of the policy term would be rounding, larger than what is to be seen in it."""
    generator = torch.Generator().manual_seed(0)
    for spread in (1e-4, 1e-3, 1e-1):
        reward = 1 + spread * torch.rand(64, 8, generator=generator)
        group = torch.arange(64).repeat_interleave(8)
        found = advantages(reward.flatten(), group, torch.ones(512, dtype=torch.bool)).view(64, 8)
        assert found.dtype == torch.float32
        assert found.sum(1).abs().max() < 1e-6
        assert torch.allclose(found.std(1), torch.ones(64), rtol=1e-5)
