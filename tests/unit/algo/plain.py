"""The objective written down plainly, with all logits and torch's own gradients: what the fused one is tested against."""

import math

import torch
from torch import Tensor

from masters.algo.divergence import K3_LARGEST
from masters.algo.reward import advantages, distill_reward, shared_divergence
from masters.algo.terms import Divergence, Head, Objective, Responses, Terms


def wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def log_softmax(head: Head, rows: int) -> Tensor:
    return torch.log_softmax(wide(head.hidden_TH) @ wide(head.weight_VH[:rows]).T, -1)


def padded(other_TV: Tensor, columns: int, floor: float) -> tuple[Tensor, Tensor]:
    """log q and q over the student's columns: outside q is 0, and its logarithm the floor of the reverse KL."""
    outside = columns - other_TV.shape[1]
    log_q = torch.cat([other_TV, other_TV.new_full((len(other_TV), outside), floor)], 1)
    q = torch.cat([other_TV.exp(), other_TV.new_zeros(len(other_TV), outside)], 1)
    return log_q, q


def divergence(student_TV: Tensor, other_TV: Tensor, choice: Divergence) -> Tensor:
    """By its definition: sums of probability times difference of logarithms."""
    kind, w = choice
    outside = max(1, student_TV.shape[1] - other_TV.shape[1])
    log_q, q = padded(other_TV, student_TV.shape[1], -K3_LARGEST - math.log(outside))
    p = student_TV.exp()
    tiny = torch.finfo(p.dtype).tiny

    def kl(a: Tensor, log_a: Tensor, log_b: Tensor) -> Tensor:
        return (a * (log_a - log_b)).sum(-1)

    if kind == "forward_kl":
        value_T = kl(q, log_q, student_TV)
    elif kind == "reverse_kl":
        value_T = kl(p, student_TV, log_q)
    elif kind == "skew_reverse_kl":
        value_T = kl(p, student_TV, (w * p + (1 - w) * q).clamp_min(tiny).log())
    else:
        log_m = (w * q + (1 - w) * p).clamp_min(tiny).log()
        value_T = kl(q, log_q, log_m)
        if kind == "jsd":
            value_T = w * value_T + (1 - w) * kl(p, student_TV, log_m)
    return value_T - value_T.detach().clamp_max(0)


def k3(now_T: Tensor, before_T: Tensor) -> Tensor:
    d = before_T - now_T
    tangent = math.exp(K3_LARGEST) * torch.relu(d - K3_LARGEST)
    return d.clamp_max(K3_LARGEST).exp() + tangent - d - 1


def token_mean(values_T: Tensor, responses: Responses) -> Tensor:
    counts_J = torch.bincount(responses.response_T, minlength=len(responses.group_J))
    return values_T.new_zeros(len(counts_J)).index_add(0, responses.response_T, values_T) / counts_J.clamp_min(1)


def response_weight(responses: Responses, groups: float) -> Tensor:
    present_J = torch.bincount(responses.response_T, minlength=len(responses.group_J)) > 0
    sizes = torch.bincount(responses.group_J[present_J], minlength=int(responses.group_J.max()) + 1)
    return torch.where(present_J, 1 / (groups * sizes[responses.group_J].double()), 0.0)


def masters_objective(
    student: Head,
    teacher: Head,
    reference: Head | None,
    responses: Responses,
    objective: Objective,
    *,
    groups: float,
    norms: bool = True,
) -> tuple[Tensor, Terms]:
    """As in masters.algo.fused."""
    target_T = responses.target_T[:, None]
    student_TV = log_softmax(student, len(student.weight_VH))
    taken_T = student_TV.gather(1, target_T)[:, 0]
    divergence_T = divergence(student_TV, log_softmax(teacher, objective.vocabulary), objective.divergence)
    kl_T = torch.zeros_like(taken_T)
    if reference is not None:
        reference_TV = log_softmax(reference, objective.vocabulary)
        if objective.kl == "exact":
            kl_T = divergence(student_TV, reference_TV, Divergence("reverse_kl"))
        else:
            kl_T = k3(taken_T, reference_TV.gather(1, target_T)[:, 0])

    def mean(values_T: Tensor) -> Tensor:
        return token_mean(values_T, responses)

    present_J = torch.bincount(responses.response_T, minlength=len(responses.group_J)) > 0
    judged_J = ~responses.accuracy_J.isnan() & present_J
    divergence_J = shared_divergence(
        mean(divergence_T.detach()), responses.target_T, responses.response_T, responses.group_J
    )
    distill_J = distill_reward(divergence_J, responses.group_J, judged_J, objective.tie)
    reward_J = responses.accuracy_J.nan_to_num().to(distill_J.dtype) + distill_J
    advantage_J = advantages(reward_J, responses.group_J, judged_J)
    if objective.clamp_advantages:
        advantage_J = advantage_J.clamp_min(0)
    if objective.policy_weight == 0:
        advantage_J = torch.zeros_like(advantage_J)
    ratio_T = (taken_T - taken_T.detach()).exp()
    weight_J = response_weight(responses, groups).to(taken_T.dtype)
    values = {
        "policy": -objective.policy_weight * (mean(ratio_T) * advantage_J * weight_J).sum(),
        "kl": objective.kl_weight * (mean(kl_T) * weight_J).sum(),
        "distill": (mean(divergence_T) * weight_J).sum(),
    }
    terms = Terms(
        **{name: value.detach() for name, value in values.items()},
        gradient_norms=_gradient_norms(values, student.hidden_TH) if norms else {},
        divergence_J=divergence_J,
        kl_J=mean(kl_T.detach()),
        log_probability_J=mean(taken_T.detach()),
        distill_reward_J=distill_J,
        advantage_J=advantage_J,
    )
    return torch.stack(list(values.values())).sum(), terms


def sft_objective(student: Head, responses: Responses, *, groups: float) -> tuple[Tensor, Tensor]:
    """As in masters.algo.fused."""
    student_TV = log_softmax(student, len(student.weight_VH))
    log_probability_J = token_mean(student_TV.gather(1, responses.target_T[:, None])[:, 0], responses)
    weight_J = response_weight(responses, groups).to(student_TV.dtype)
    return -(log_probability_J * weight_J).sum(), log_probability_J.detach()


def _gradient_norms(values: dict[str, Tensor], hidden_TH: Tensor) -> dict[str, Tensor]:
    norms = {}
    for name, value in values.items():
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, hidden_TH, retain_graph=True, allow_unused=True)
        norms[name] = torch.zeros(()) if gradient is None else wide(gradient).square().sum()
    return norms
