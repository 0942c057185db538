"""The training objective of Masters (Eq. 5-11) over the response tokens of a batch of groups.

    L = 1/N sum_groups 1/J_g sum_j 1/T_j sum_t [ -policy_weight * ratio_t * A_j + kl_weight * KL_t + JSD_t ]

with ratio = exp(logp - stopgrad(logp)) = 1, and D, R and A inside A_j detached. The policy term's *value* is 0 whenever the
advantages of a group sum to 0, so the printed total need not fall: look at the terms, their gradients and the gap between
the log-probabilities of right and wrong responses.

`masters_objective` takes hidden states and heads, not logits, so that a fused implementation can take its place.
"""

import torch
from torch import Tensor

from masters.algo.divergence import jsd, log_probabilities, reverse_kl, reverse_kl_k3
from masters.algo.reward import advantages, distill_reward, shared_divergence
from masters.algo.terms import Head, Objective, Responses, Terms


def masters_objective(
    student: Head,
    teacher: Head,
    reference: Head | None,
    responses: Responses,
    objective: Objective,
    *,
    groups: float,
) -> tuple[Tensor, Terms]:
    """Loss (fp32, differentiable in the student's hidden states and head) and its terms.

    Args:
        student: its tensors may require gradients; the other two are treated as constants.
        teacher: the masked teacher of the level.
        reference: the initial student (pi_ref); None leaves the KL term out, whatever its weight.
        responses: at least one token for every response; empty ones were left out before.
        objective: weights and choices.
        groups: the denominator N. In a distributed step the number of groups of the whole step over the number of ranks
            and accumulated micro-batches, since those sums are averaged.
    """
    student_TV = log_probabilities(student.hidden_TH, student.weight_VH, objective.vocabulary)
    with torch.no_grad():
        teacher_TV = log_probabilities(teacher.hidden_TH, teacher.weight_VH, objective.vocabulary)
    taken_T = _taken(student_TV, responses.target_T)
    kl_T = _kl_to_reference(student_TV, taken_T, reference, responses, objective)
    jsd_T = jsd(student_TV, teacher_TV)

    divergence_J = shared_divergence(
        _token_mean(jsd_T.detach(), responses), responses.target_T, responses.response_T, responses.group_J
    )
    judged_J = ~responses.accuracy_J.isnan()
    distill_J = distill_reward(divergence_J, responses.group_J, judged_J, objective.tie)
    reward_J = responses.accuracy_J.nan_to_num().to(distill_J.dtype) + distill_J
    advantage_J = advantages(reward_J, responses.group_J, judged_J)
    if objective.clamp_advantages:
        advantage_J = advantage_J.clamp_min(0)
    if objective.policy_weight == 0:
        advantage_J = torch.zeros_like(advantage_J)

    ratio_T = (taken_T - taken_T.detach()).exp()
    weight_J = _response_weight(responses, groups, student_TV.dtype)
    values = {
        "policy": -objective.policy_weight * (_token_mean(ratio_T, responses) * advantage_J * weight_J).sum(),
        "kl": objective.kl_weight * (_token_mean(kl_T, responses) * weight_J).sum(),
        "distill": (_token_mean(jsd_T, responses) * weight_J).sum(),
    }
    terms = Terms(
        **{name: value.detach() for name, value in values.items()},
        gradient_norms=_gradient_norms(values, student.hidden_TH),
        divergence_J=divergence_J,
        kl_J=_token_mean(kl_T.detach(), responses),
        log_probability_J=_token_mean(taken_T.detach(), responses),
        distill_reward_J=distill_J,
        advantage_J=advantage_J,
    )
    return torch.stack(list(values.values())).sum(), terms


def sft_objective(student: Head, responses: Responses, vocabulary: int, *, groups: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy, token mean per response, mean over responses and groups: the control that uses no teacher.

    Returns the loss and the detached mean log-probability of each response [J]. Arguments as in `masters_objective`.
    """
    student_TV = log_probabilities(student.hidden_TH, student.weight_VH, vocabulary)
    log_probability_J = _token_mean(_taken(student_TV, responses.target_T), responses)
    loss = -(log_probability_J * _response_weight(responses, groups, student_TV.dtype)).sum()
    return loss, log_probability_J.detach()


def _kl_to_reference(
    student_TV: Tensor, taken_T: Tensor, reference: Head | None, responses: Responses, objective: Objective
) -> Tensor:
    if reference is None:
        return torch.zeros_like(taken_T)
    with torch.no_grad():
        reference_TV = log_probabilities(reference.hidden_TH, reference.weight_VH, objective.vocabulary)
    if objective.kl == "exact":
        return reverse_kl(student_TV, reference_TV)
    return reverse_kl_k3(taken_T, _taken(reference_TV, responses.target_T))


def _taken(log_TV: Tensor, target_T: Tensor) -> Tensor:
    return log_TV.gather(-1, target_T[:, None]).squeeze(-1)


def _token_mean(values_T: Tensor, responses: Responses) -> Tensor:
    """(1/T_j) sum_t of a per-token quantity: [J]."""
    size = responses.group_J.numel()
    lengths_J = torch.bincount(responses.response_T, minlength=size)
    return values_T.new_zeros(size).index_add(0, responses.response_T, values_T) / lengths_J


def _response_weight(responses: Responses, groups: float, dtype: torch.dtype) -> Tensor:
    """1 / (N * J_g) for each response: [J]."""
    sizes = torch.bincount(responses.group_J)
    return 1.0 / (groups * sizes[responses.group_J].to(dtype))


def _gradient_norms(values: dict[str, Tensor], hidden_TH: Tensor) -> dict[str, Tensor]:
    """Squared gradient norm of each term at the hidden states; empty where nothing is to be differentiated."""
    if not hidden_TH.requires_grad:
        return {}
    norms = {}
    for name, value in values.items():
        if not value.requires_grad:
            norms[name] = value.new_zeros(())
            continue
        (gradient,) = torch.autograd.grad(value, hidden_TH, retain_graph=True, allow_unused=True)
        norms[name] = value.new_zeros(()) if gradient is None else gradient.to(value.dtype).square().sum()
    return norms
