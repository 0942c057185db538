"""Divergences of next-token distributions from logits, and their gradients at the student's logits, in closed form.

With D = sum_v phi(p_v, q_v), p = softmax of the student's logits z, and the slope f = p * d phi / d p (any multiple of p may be
left out of it, as the sum below takes it out):

    dD / dz = f - p * sum_v f

The student is normalised over its whole head, the other model over the common vocabulary only. In the columns behind that,
q = 0: mass that the student has there costs log(1 / (1 - w)) * (1 - w) in the JSD, lowers what forward_kl and skew_kl find
inside, and costs -log w in skew_reverse_kl. The plain reverse KL would be infinite: there the other model is taken to leave
exp(-K3_LARGEST) of its mass to these columns, evenly, so that each unit of mass costs some 20 nats.

This is the reference for the kernels in kernels.py and what runs on CPUs. Rows are worked through in tiles, so that what lies
between two operations stays in the cache and never is [T, V].
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from masters.algo.divergence import K3_LARGEST
from masters.algo.terms import Divergence

_TILE, _TILE_GPU = 1 << 18, 1 << 26
"""Elements of a tile: 1 MiB of fp32 where there is a cache to stay in, many where each operation has to be launched."""


class Softmax(NamedTuple):
    """A distribution per token: log-probabilities are the first `rows` columns of logits [T, V] minus their normaliser [T].

    All models have as many columns as the student's head has rows; what a model has in the others means nothing.
    """

    logits_TV: Tensor
    normaliser_T: Tensor
    rows: int

    def taken(self, target_T: Tensor) -> Tensor:
        """Log-probability of one id per token: [T]."""
        return self.logits_TV.gather(1, target_T[:, None]).squeeze(1) - self.normaliser_T


class Pull(NamedTuple):
    """A divergence in the loss: its slope and the slope's sum, as `measure` found them, and its weight per token."""

    slope_TV: Tensor
    slope_T: Tensor
    weight_T: Tensor


def normaliser(logits_TV: Tensor, rows: int) -> Tensor:
    """log sum exp of each token's first `rows` columns: [T]."""
    result_T = logits_TV.new_empty(logits_TV.shape[0])
    for tile in _tiles(logits_TV):
        torch.logsumexp(logits_TV[tile, :rows], -1, out=result_T[tile])
    return result_T


def measure(student: Softmax, other: Softmax, divergence: Divergence) -> tuple[Tensor, Tensor]:
    """Divergence of each token, >= 0 (what rounding puts below is lifted), and the sum of its slope: [T] and [T].

    The slope itself takes the place of the other model's logits.
    """
    value_T, slope_T = torch.empty_like(student.normaliser_T), torch.empty_like(student.normaliser_T)
    for tile in _tiles(student.logits_TV):
        log_p = _log_probability(student, tile)
        log_q = torch.sub(other.logits_TV[tile], other.normaliser_T[tile, None], out=other.logits_TV[tile])
        log_q[:, other.rows :] = outside_log_probability(log_q.shape[1] - other.rows)
        phi = _FORMS[divergence.kind](log_p, log_q, other.rows, divergence.weight)
        value_T[tile], slope_T[tile] = phi.sum(-1), other.logits_TV[tile].sum(-1)
    return value_T.clamp_min_(0), slope_T


def gradient(student: Softmax, pulls: Sequence[Pull], gain_T: Tensor, target_T: Tensor, out_TV: Tensor) -> None:
    """Write the gradient at the student's logits into `out_TV`, which may be those logits.

    Args:
        student: over its whole head.
        pulls: divergences to be lowered: weight_T * (slope - p * slope_T) each.
        gain_T: how much the log-probability of the taken token is to be raised: gain_T * (p - onehot).
        target_T: the taken tokens.
        out_TV: takes the gradient.
    """
    factor_T = gain_T
    for pull in pulls:
        factor_T = factor_T - pull.weight_T * pull.slope_T
    for tile in _tiles(student.logits_TV):
        p = _log_probability(student, tile).exp_()
        torch.mul(p, factor_T[tile, None], out=out_TV[tile])
        for pull in pulls:
            out_TV[tile].addcmul_(pull.slope_TV[tile], pull.weight_T[tile, None])
        out_TV[tile].scatter_add_(1, target_T[tile, None], -gain_T[tile, None])


def outside_log_probability(outside: int) -> float:
    """Log-probability that the other model is taken to give each of `outside` columns behind the common vocabulary."""
    return -K3_LARGEST - math.log(max(1, outside))


def _log_probability(model: Softmax, tile: slice) -> Tensor:
    return model.logits_TV[tile] - model.normaliser_T[tile, None]


def _jsd(log_p: Tensor, log_q: Tensor, rows: int, w: float) -> Tensor:
    """phi of every id; the slope takes the place of log q. So do all forms; `rows` is where q becomes 0."""
    p, q = log_p.exp(), _inside(log_q.exp(), rows)
    log_m = _log_(torch.lerp(p, q, w))
    q.mul_(log_q.sub_(log_m))
    torch.sub(log_p, log_m, out=log_q).mul_(p).mul_(1 - w)
    return torch.add(log_q, q, alpha=w, out=q)


def _forward_kl(log_p: Tensor, log_q: Tensor, rows: int, w: float) -> Tensor:
    q = _inside(log_q.exp(), rows)
    phi = torch.sub(log_q, log_p, out=log_p).mul_(q)
    torch.neg(q, out=log_q)
    return phi


def _reverse_kl(log_p: Tensor, log_q: Tensor, rows: int, w: float) -> Tensor:
    return torch.sub(log_p, log_q, out=log_q).mul_(log_p.exp_())


def _skew_kl(log_p: Tensor, log_q: Tensor, rows: int, w: float) -> Tensor:
    p, q = log_p.exp(), _inside(log_q.exp(), rows)
    mixture = _positive_(torch.lerp(p, q, w))
    phi = torch.sub(log_q, torch.log(mixture), out=log_p).mul_(q)
    torch.mul(p, q, out=log_q).div_(mixture).mul_(w - 1)
    return phi


def _skew_reverse_kl(log_p: Tensor, log_q: Tensor, rows: int, w: float) -> Tensor:
    p, q = log_p.exp(), _inside(log_q.exp(), rows)
    mixture = _positive_(torch.lerp(q, p, w))
    phi = log_p.sub_(torch.log(mixture)).mul_(p)
    torch.sub(phi, p.square_().div_(mixture), alpha=w, out=log_q)
    return phi


_FORMS: dict[str, Callable[[Tensor, Tensor, int, float], Tensor]] = {
    "jsd": _jsd,
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "skew_kl": _skew_kl,
    "skew_reverse_kl": _skew_reverse_kl,
}


def _inside(q: Tensor, rows: int) -> Tensor:
    q[:, rows:] = 0
    return q


def _log_(mixture: Tensor) -> Tensor:
    return _positive_(mixture).log_()


def _positive_(mixture: Tensor) -> Tensor:
    """Where both probabilities are 0 in this dtype they are factors of the result, too: any finite number will do."""
    return mixture.clamp_min_(torch.finfo(mixture.dtype).tiny)


def _tiles(logits_TV: Tensor) -> Iterator[slice]:
    rows, columns = logits_TV.shape
    step = max(1, (_TILE if logits_TV.device.type == "cpu" else _TILE_GPU) // max(1, columns))
    return (slice(start, min(rows, start + step)) for start in range(0, rows, step))
