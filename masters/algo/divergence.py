"""The k3 estimate of a KL divergence, from the log-probabilities of the taken tokens."""

import math

import torch
from torch import Tensor

K3_LARGEST = 20.0
"""Difference of log-probabilities up to which k3 is exact: exp(20) = 4.9e8, whose square still fits into fp32 sums."""


def reverse_kl_k3(student_T: Tensor, reference_T: Tensor) -> Tensor:
    """The k3 estimate of KL(student || reference) from the log-probabilities [T] of the taken tokens: [T], >= 0.

    k3 = exp(d) - d - 1, d = log pi_ref - log pi. Unbiased only where the tokens were sampled from the student. Past
    d = K3_LARGEST, where exp would overflow, exp goes on as its tangent: value and gradient stay finite, and the gradient
    (at most exp(K3_LARGEST) - 1) still pulls a student back that lost a token which the reference would take.
    """
    difference_T = reference_T - student_T
    bounded_T = difference_T.clamp_max(K3_LARGEST)
    tangent_T = math.exp(K3_LARGEST) * torch.relu(difference_T - K3_LARGEST)
    return (bounded_T.expm1() + tangent_T - difference_T).clamp_min(0)
