"""What goes into the objective of Masters (Eq. 5-11) and what comes out of it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from masters.algo.reward import TIE
from masters.algo.reward import Kind as RewardKind

BUDGET = 1 << 30
"""Bytes of buffers over the vocabulary: some 580 tokens of a vocabulary of 152,000 at once."""

Kind = Literal["jsd", "forward_kl", "reverse_kl", "skew_kl", "skew_reverse_kl"]


class Head(NamedTuple):
    """What predicts the response tokens of one model: hidden states [T, H] and the output projection [V, H]."""

    hidden_TH: Tensor
    weight_VH: Tensor


class Divergence(NamedTuple):
    """How far the student S is from the teacher T at a token: the D of Eq. 4 and 5, for the loss and for the reward alike.

    jsd              w KL(T || M) + (1 - w) KL(S || M), M = w T + (1 - w) S: w is the teacher's share of the mixture
    forward_kl       KL(T || S)
    reverse_kl       KL(S || T)
    skew_kl          KL(T || w T + (1 - w) S)       DistiLLM, arXiv 2402.03898; w is its alpha, there 0.1
    skew_reverse_kl  KL(S || w S + (1 - w) T)       the same

    Attributes:
        kind: one of the five.
        weight: w, between 0 and 1, both excluded; the two plain KLs do not use it.
    """

    kind: Kind = "jsd"
    weight: float = 0.5


JSD = Divergence()
"""That of the paper, with the 1/2-1/2 mixture."""


@dataclass(frozen=True)
class Objective:
    """The terms and their weights. The paper: policy_weight 1, kl_weight 0.1, kl exact, no clamp, jsd.

    Attributes:
        policy_weight: weight of the policy term; 0 leaves distillation (and KL).
        kl_weight: beta of Eq. 9.
        kl: `exact` over the vocabulary or the `k3` estimate at the taken tokens; both need a reference model.
        clamp_advantages: replace negative advantages by 0, so that no response is pushed down.
        vocabulary: number of ids that student, teacher and reference share; each head has at least as many rows.
        tie: relative spread of D up to which a group is tied: TIE, or TIE_BF16 where forwards are bf16.
        divergence: between student and teacher.
        budget: bytes that buffers over the vocabulary may take, the gradient of the head aside. A group of responses that
            fits is computed at once, which is faster; else its logits are computed twice, token by token if need be.
        reward: what the policy term's advantages are made from.
    """

    policy_weight: float
    kl_weight: float
    kl: Literal["exact", "k3"]
    clamp_advantages: bool
    vocabulary: int
    tie: float = TIE
    divergence: Divergence = JSD
    budget: int = BUDGET
    reward: RewardKind = "both"


@dataclass(frozen=True)
class Responses:
    """The response tokens of a batch, response by response.

    Attributes:
        target_T: token ids below the common vocabulary, a generated end-of-turn token included.
        response_T: which response each token belongs to, ascending.
        group_J: which question each response answers, ascending from 0.
        accuracy_J: R_acc of each response, 1 or 0; NaN where the verdict is null.
    """

    target_T: Tensor
    response_T: Tensor
    group_J: Tensor
    accuracy_J: Tensor


@dataclass(frozen=True)
class Terms:
    """What one evaluation of the objective found; all detached, per response [J] unless said otherwise."""

    policy: Tensor
    """Scalar: value of the weighted policy term."""
    kl: Tensor
    """Scalar: kl_weight * KL."""
    distill: Tensor
    """Scalar: the term of the divergence."""
    gradient_norms: dict[str, Tensor]
    """Squared norm of each term's gradient at the student's hidden states, if asked for."""
    divergence_J: Tensor
    """D; responses of a group with the same tokens share one."""
    kl_J: Tensor
    log_probability_J: Tensor
    distill_reward_J: Tensor
    advantage_J: Tensor
