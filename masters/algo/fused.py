"""The training objective of Masters (Eq. 5-11) over the response tokens of a batch of groups, without logits kept.

    L = 1/N sum_groups 1/J_g sum_j 1/T_j sum_t [ -policy_weight * ratio_t * A_j + kl_weight * KL_t + D_t ]

with ratio = exp(logp - stopgrad(logp)) = 1, and D, R and A inside A_j detached. The policy term's *value* is 0 whenever the
advantages of a group sum to 0, so the printed total need not fall: look at the terms, their gradients and the gap between
the log-probabilities of right and wrong responses.

Values and gradients come from one sweep in closed form; `backward` only scales them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from masters.algo.products import accumulation_dtype
from masters.algo.reward import advantages, distill_reward, shared_divergence, total_reward
from masters.algo.sweep import Sweep, token_means
from masters.algo.terms import BUDGET, Head, Objective, Responses, Terms


def masters_objective(
    student: Head,
    teacher: Head,
    reference: Head | None,
    responses: Responses,
    objective: Objective,
    *,
    groups: float,
    norms: bool = False,
) -> tuple[Tensor, Terms]:
    """Loss (fp32 or float64, differentiable once in the student's hidden states and head) and its terms.

    Args:
        student: its tensors may require gradients; normalised over its whole head.
        teacher: the masked teacher of the level; a constant, as is the reference. Both are normalised over the common
            vocabulary.
        reference: the initial student (pi_ref); None leaves the KL term out, whatever its weight.
        responses: one without tokens is left out of its group; at least one token in all.
        objective: weights and choices.
        groups: the denominator N. In a distributed step the number of groups of the whole step over the number of ranks
            and accumulated micro-batches, since those sums are averaged.
        norms: also the norm of each term's gradient: two products with the head more.
    """
    counts_J = _counts(responses)
    weight_J = _response_weight(responses, counts_J, groups, accumulation_dtype(*student))
    sweep = Sweep(
        student,
        teacher,
        reference,
        responses,
        (weight_J / counts_J.clamp_min(1))[responses.response_T],
        vocabulary=objective.vocabulary,
        divergence=objective.divergence,
        kl_weight=objective.kl_weight,
        exact=objective.kl == "exact",
        budget=objective.budget,
        norms=norms,
    )
    earned = [responses.accuracy_J.new_zeros(responses.accuracy_J.shape, dtype=weight_J.dtype) for _ in range(3)]

    def earn(members: slice, mean_J: Tensor) -> Tensor:
        found = _earned(mean_J, _members(responses, members), objective)
        for whole_J, part_J in zip(earned, found, strict=True):
            whole_J[members] = part_J
        return objective.policy_weight * found[-1]

    if objective.policy_weight and sweep.differentiated:
        sweep.run(earn)
    else:
        sweep.run(0.0)
        earn(slice(0, counts_J.numel()), token_means(sweep.divergence_T, responses.response_T, counts_J))
    terms = _terms(sweep, earned, responses, weight_J, counts_J, objective)
    return _attached(terms.policy + terms.kl + terms.distill, student, sweep), terms


def _terms(
    sweep: Sweep,
    earned: Sequence[Tensor],
    responses: Responses,
    weight_J: Tensor,
    counts_J: Tensor,
    objective: Objective,
) -> Terms:
    """Means over tokens and responses of what a sweep has found; `earned` are D, R_distill and A [J]."""
    divergence_J, distill_J, advantage_J = earned

    def mean(values_T: Tensor) -> Tensor:
        return token_means(values_T, responses.response_T, counts_J)

    kl_J = mean(sweep.kl_T)
    return Terms(
        policy=-objective.policy_weight * (advantage_J * weight_J).sum(),
        kl=objective.kl_weight * (kl_J * weight_J).sum(),
        distill=(mean(sweep.divergence_T) * weight_J).sum(),
        gradient_norms=sweep.squared_norms,
        divergence_J=divergence_J,
        kl_J=kl_J,
        log_probability_J=mean(sweep.log_probability_T),
        distill_reward_J=distill_J,
        advantage_J=advantage_J,
    )


def sft_objective(student: Head, responses: Responses, *, groups: float, budget: int = BUDGET) -> tuple[Tensor, Tensor]:
    """Cross-entropy over the whole head, token mean per response, mean over responses and groups: uses no teacher.

    Returns the loss and the detached mean log-probability of each response [J]. Arguments as in `masters_objective`, budget
    as in Objective.
    """
    counts_J = _counts(responses)
    weight_J = _response_weight(responses, counts_J, groups, accumulation_dtype(*student))
    weight_T = (weight_J / counts_J.clamp_min(1))[responses.response_T]
    sweep = Sweep(student, None, None, responses, weight_T, budget=budget)
    sweep.run(1.0)
    log_probability_J = token_means(sweep.log_probability_T, responses.response_T, counts_J)
    return _attached(-(log_probability_J * weight_J).sum(), student, sweep), log_probability_J


def _earned(mean_J: Tensor, responses: Responses, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
    """D, R_distill and A of the responses of whole groups."""
    group_J = responses.group_J
    divergence_J = shared_divergence(mean_J, responses.target_T, responses.response_T, group_J)
    judged_J = ~responses.accuracy_J.isnan() & (_counts(responses) > 0)
    distill_J = distill_reward(divergence_J, group_J, judged_J, objective.tie)
    accuracy_J = responses.accuracy_J.nan_to_num().to(distill_J.dtype)
    reward_J = total_reward(objective.reward, accuracy_J, distill_J, divergence_J)
    advantage_J = advantages(reward_J, group_J, judged_J)
    if objective.clamp_advantages:
        advantage_J = advantage_J.clamp_min(0)
    return divergence_J, distill_J, advantage_J if objective.policy_weight else torch.zeros_like(advantage_J)


def _members(responses: Responses, members: slice) -> Responses:
    """The responses of some groups alone, numbered from 0."""
    inside_T = (responses.response_T >= members.start) & (responses.response_T < members.stop)
    group_J = responses.group_J[members]
    return Responses(
        responses.target_T[inside_T],
        responses.response_T[inside_T] - members.start,
        group_J - group_J[0],
        responses.accuracy_J[members],
    )


def _counts(responses: Responses) -> Tensor:
    """Tokens of each response: [J]."""
    return torch.bincount(responses.response_T, minlength=responses.group_J.numel())


def _response_weight(responses: Responses, counts_J: Tensor, groups: float, dtype: torch.dtype) -> Tensor:
    """1 / (N * J_g) for each response, 0 for one without tokens, which does not count in J_g: [J]."""
    present_J = (counts_J > 0).to(dtype)
    sizes = present_J.new_zeros(int(responses.group_J.max()) + 1).index_add_(0, responses.group_J, present_J)
    return present_J / (groups * sizes.clamp_min(1))[responses.group_J]


def _attached(value: Tensor, student: Head, sweep: Sweep) -> Tensor:
    """The value as a loss whose gradients the sweep has found."""
    if not sweep.differentiated:
        return value
    loss: Tensor = _Loss.apply(*student, value, sweep)
    return loss


class _Loss(torch.autograd.Function):
    """Holds the gradients until `backward` takes them: once, as they are scaled in place."""

    @staticmethod
    def forward(ctx: Any, hidden_TH: Tensor, weight_VH: Tensor, value: Tensor, sweep: Sweep) -> Tensor:
        ctx.dtypes = hidden_TH.dtype, weight_VH.dtype
        ctx.gradients = sweep.hidden_gradient_TH, sweep.head_gradient_VH
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "the objective's gradients were used up by a first backward; compute the objective again"
            )
        gradients, ctx.gradients = ctx.gradients, None
        scaled = (
            None if gradient is None else gradient.mul_(scale).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        )
        return *scaled, None, None
