"""Divergences between next-token distributions, per token, from log-probabilities. Directions are in the names.

Everything is computed in fp32 (float64 stays float64): in bf16 a JSD of 1e-3 comes out negative.
"""

import math

import torch
from torch import Tensor

K3_LARGEST = 20.0
"""Difference of log-probabilities up to which k3 is exact: exp(20) = 4.9e8, whose square still fits into fp32 sums."""


def log_probabilities(hidden_TH: Tensor, head_VH: Tensor, vocabulary: int) -> Tensor:
    """log softmax of the head's first `vocabulary` rows: [T, V], fp32 or float64.

    Heads of one family differ in their padding; rows past the common true vocabulary are cut off, never filled up. Logits in
    bf16 would be rounded by up to 0.1: enough to turn the ranking of a group around.
    """
    return torch.log_softmax(_wide(hidden_TH) @ _wide(head_VH[:vocabulary]).T, dim=-1)


def jsd(student_TV: Tensor, teacher_TV: Tensor) -> Tensor:
    """Jensen-Shannon divergence with the 1/2-1/2 mixture (the D of Eq. 4 and 5): [T], symmetric, >= 0, <= ln 2 up to rounding.

    JSD = 1/2 KL(S || M) + 1/2 KL(T || M), M = (S + T) / 2; both arguments are log-probabilities [T, V].
    """
    mixture_TV = torch.logaddexp(student_TV, teacher_TV) - math.log(2)
    return _not_negative(0.5 * (_kl(student_TV, mixture_TV) + _kl(teacher_TV, mixture_TV)))


def reverse_kl(student_TV: Tensor, reference_TV: Tensor) -> Tensor:
    """KL(student || reference) of Eq. 9, exact over the vocabulary: [T], >= 0."""
    return _not_negative(_kl(student_TV, reference_TV))


def reverse_kl_k3(student_T: Tensor, reference_T: Tensor) -> Tensor:
    """The k3 estimate of KL(student || reference) from the log-probabilities [T] of the taken tokens: [T], >= 0.

    k3 = exp(d) - d - 1, d = log pi_ref - log pi. Unbiased only where the tokens were sampled from the student. Past
    d = K3_LARGEST, where exp would overflow, exp goes on as its tangent: value and gradient stay finite, and the gradient
    (at most exp(K3_LARGEST) - 1) still pulls a student back that lost a token which the reference would take.
    """
    difference_T = reference_T - student_T
    bounded_T = difference_T.clamp_max(K3_LARGEST)
    tangent_T = math.exp(K3_LARGEST) * torch.relu(difference_T - K3_LARGEST)
    return _not_negative(bounded_T.expm1() + tangent_T - difference_T)


def _kl(p_TV: Tensor, q_TV: Tensor) -> Tensor:
    return (p_TV.exp() * (p_TV - q_TV)).sum(-1)


def _not_negative(values_T: Tensor) -> Tensor:
    """Lift what rounding has put below 0 (about -3e-8) to 0 and keep its gradient.

    The gradient at equal distributions is 0 anyway, but a divergence that drowns in rounding belongs to distributions that
    may be 1e-4 apart, and clamping would take the gradient from half of these tokens.
    """
    return values_T - values_T.detach().clamp_max(0)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
