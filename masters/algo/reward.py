"""Rewards and advantages of the responses to one or many questions (Eq. 6, 7, 10). J responses, grouped by question."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Kind = Literal["both", "accuracy", "distill", "unnormalised"]
"""What a response is rewarded for: the rows of Table 5e."""

TIE = 1e-4
"""Relative spread of D under which all responses of a group transfer equally well, where forwards are fp32."""

TIE_BF16 = 2e-3
"""The same where forwards are bf16: one response at two places of a row was seen with D 1.2e-3 apart."""

ROUNDING = 1e-6
"""Divergences up to this are rounding of fp32 sums: the responses are tied, too. So is a spread of rewards up to this."""


def shared_divergence(divergence_J: Tensor, target_T: Tensor, response_T: Tensor, group_J: Tensor) -> Tensor:
    """D of each response, that of the first where several of a group have the same tokens: [J].

    Equal responses are worth the same, but each is computed at another place of its row and rounded otherwise; the min-max
    of Eq. 7 would stretch these roundings to full size.

    Args:
        divergence_J: token mean of the JSD of each response.
        target_T: token ids, >= 0, response by response.
        response_T: which response each token belongs to, ascending.
        group_J: the question that each response answers.
    """
    size = group_J.numel()
    lengths = torch.bincount(response_T, minlength=size).tolist()
    tokens_JL = pad_sequence(target_T.split(lengths), batch_first=True, padding_value=-1)
    kind_J = torch.cat([group_J[:, None], tokens_JL], dim=1).unique(dim=0, return_inverse=True)[1]
    first = torch.full_like(group_J, size).scatter_reduce(0, kind_J, torch.arange(size, device=group_J.device), "amin")
    return divergence_J[first[kind_J]]


def distill_reward(divergence_J: Tensor, group_J: Tensor, judged_J: Tensor, tie: float = TIE) -> Tensor:
    """Reverse min-max normalised divergence within each group (Eq. 7): [J], in [0, 1].

    R_distill = (Dmax - D) / (Dmax - Dmin); 1 for all where Dmax - Dmin <= tie * Dmax, else noise would be stretched to
    full size, and where Dmax is no more than rounding. Min and max are taken over the judged responses; the others get 0.

    Args:
        divergence_J: token mean of the JSD of each response, >= 0, fp32 or float64.
        group_J: the question that each response answers, integers from 0.
        judged_J: bool; responses with a verdict.
        tie: TIE, or TIE_BF16 where the hidden states behind D were computed in bf16.
    """
    groups = int(group_J.max()) + 1
    low, high = divergence_J.new_full((groups,), torch.inf), divergence_J.new_full((groups,), -torch.inf)
    index_J, values_J = group_J[judged_J], divergence_J[judged_J]
    low = low.scatter_reduce(0, index_J, values_J, "amin")[group_J]
    high = high.scatter_reduce(0, index_J, values_J, "amax")[group_J]
    spread = high - low
    tied = (spread <= tie * high) | (high <= ROUNDING)
    reward = torch.where(tied, torch.ones_like(spread), (high - divergence_J) / torch.where(tied, 1.0, spread))
    return torch.where(judged_J, reward, torch.zeros_like(reward))


def total_reward(kind: Kind, accuracy_J: Tensor, distill_J: Tensor, divergence_J: Tensor) -> Tensor:
    """The R whose advantage is taken (Eq. 10): [J].

    both            R_acc + R_distill, in [0, 2]: the paper's
    accuracy        R_acc alone
    distill         R_distill alone
    unnormalised    R_acc - D, without the reverse min-max of Eq. 7

    Args:
        kind: one of the four.
        accuracy_J: R_acc, 0 or 1.
        distill_J: R_distill, in [0, 1].
        divergence_J: the D that it was made from.
    """
    by_kind = {
        "both": accuracy_J + distill_J,
        "accuracy": accuracy_J,
        "distill": distill_J,
        "unnormalised": accuracy_J - divergence_J.to(accuracy_J.dtype),
    }
    return by_kind[kind]


def advantages(reward_J: Tensor, group_J: Tensor, judged_J: Tensor) -> Tensor:
    """A_j = (R_j - mean) / std within each group (Eq. 10): [J]; std is unbiased.

    0 where the rewards of a group are all equal, where fewer than two of its responses were judged, and for every
    response that was not. Found in float64: where rewards are nearly equal, the rounding of their mean would be divided by a
    small std, and the advantages of a group would no longer sum to 0.
    """
    groups = int(group_J.max()) + 1
    weight_J, wide_J = judged_J.double(), reward_J.double()

    def total(values_J: Tensor) -> Tensor:
        return values_J.new_zeros(groups).index_add(0, group_J, values_J * weight_J)[group_J]

    count_J = total(torch.ones_like(wide_J))
    centred_J = wide_J - total(wide_J) / count_J.clamp_min(1)
    std_J = (total(centred_J.square()) / (count_J - 1).clamp_min(1)).sqrt()
    usable_J = judged_J & (count_J >= 2) & (std_J > ROUNDING)
    advantage_J = torch.where(usable_J, centred_J / torch.where(usable_J, std_J, 1.0), torch.zeros_like(wide_J))
    return advantage_J.to(reward_J.dtype)
