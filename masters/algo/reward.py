"""Rewards and advantages of the responses to one or many questions (Eq. 6, 7, 10). J responses, grouped by question."""

import torch
from torch import Tensor

TIE = 1e-4
"""Relative spread of D under which all responses of a group transfer equally well."""

ROUNDING = 1e-6
"""Divergences up to this are rounding of fp32 sums: the responses are tied, too."""


def distill_reward(divergence_J: Tensor, group_J: Tensor, judged_J: Tensor) -> Tensor:
    """Reverse min-max normalised divergence within each group (Eq. 7): [J], in [0, 1].

    R_distill = (Dmax - D) / (Dmax - Dmin); 1 for all where Dmax - Dmin <= 1e-4 * Dmax, else noise would be stretched to
    full size, and where Dmax is no more than rounding. Min and max are taken over the judged responses; the others get 0.

    Args:
        divergence_J: token mean of the JSD of each response, >= 0, fp32 or float64.
        group_J: the question that each response answers, integers from 0.
        judged_J: bool; responses with a verdict.
    """
    groups = int(group_J.max()) + 1
    low, high = divergence_J.new_full((groups,), torch.inf), divergence_J.new_full((groups,), -torch.inf)
    index_J, values_J = group_J[judged_J], divergence_J[judged_J]
    low = low.scatter_reduce(0, index_J, values_J, "amin")[group_J]
    high = high.scatter_reduce(0, index_J, values_J, "amax")[group_J]
    spread = high - low
    tie = (spread <= TIE * high) | (high <= ROUNDING)
    reward = torch.where(tie, torch.ones_like(spread), (high - divergence_J) / torch.where(tie, 1.0, spread))
    return torch.where(judged_J, reward, torch.zeros_like(reward))


def advantages(reward_J: Tensor, group_J: Tensor, judged_J: Tensor) -> Tensor:
    """A_j = (R_j - mean) / std within each group (Eq. 10): [J]; std is unbiased.

    0 where the rewards of a group are all equal, where fewer than two of its responses were judged, and for every
    response that was not.
    """
    groups = int(group_J.max()) + 1
    weight_J = judged_J.to(reward_J.dtype)

    def total(values_J: Tensor) -> Tensor:
        return values_J.new_zeros(groups).index_add(0, group_J, values_J * weight_J)[group_J]

    count_J = total(torch.ones_like(reward_J))
    centred_J = reward_J - total(reward_J) / count_J.clamp_min(1)
    std_J = (total(centred_J.square()) / (count_J - 1).clamp_min(1)).sqrt()
    equal_J = std_J <= torch.finfo(reward_J.dtype).eps * 8
    usable_J = judged_J & (count_J >= 2) & ~equal_J
    return torch.where(usable_J, centred_J / torch.where(usable_J, std_J, 1.0), torch.zeros_like(reward_J))
