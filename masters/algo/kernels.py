"""The functions of gradients.py as Triton kernels: each reads its logits once and writes nothing but its result.

Imported on GPUs only. One program a row; sums run in as many lanes as a block has columns.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# Kernels are compiled from source by Triton: their arguments are pointers and numbers of the device.

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from masters.algo.gradients import Pull, Softmax, outside_log_probability
from masters.algo.terms import Divergence

_BLOCK = 4096
_KINDS = {"jsd": 0, "forward_kl": 1, "reverse_kl": 2, "skew_kl": 3, "skew_reverse_kl": 4}


def normaliser(logits_TV: Tensor, rows: int) -> Tensor:
    """log sum exp of each token's first `rows` columns: [T]."""
    tokens, columns = logits_TV.shape
    result_T = logits_TV.new_empty(tokens)
    with torch.cuda.device_of(logits_TV):
        _normaliser[(tokens,)](logits_TV, result_T, columns, rows, BLOCK=_BLOCK, num_warps=8)
    return result_T


def measure(student: Softmax, other: Softmax, divergence: Divergence) -> tuple[Tensor, Tensor]:
    """Divergence of each token and the sum of its slope, which takes the place of the other's logits, as in gradients.py."""
    tokens, columns = student.logits_TV.shape
    value_T, slope_T = torch.empty_like(student.normaliser_T), torch.empty_like(student.normaliser_T)
    outside = outside_log_probability(columns - other.rows)
    with torch.cuda.device_of(student.logits_TV):
        _measure[(tokens,)](
            student.logits_TV, student.normaliser_T, other.logits_TV, other.normaliser_T, value_T, slope_T, columns,
            other.rows, KIND=_KINDS[divergence.kind], W=divergence.weight, OUTSIDE=outside, BLOCK=_BLOCK, num_warps=8,
        )  # fmt: skip
    return value_T, slope_T


def gradient(student: Softmax, pulls: Sequence[Pull], gain_T: Tensor, target_T: Tensor, out_TV: Tensor) -> None:
    """Write the gradient at the student's logits, as in gradients.py; at most two divergences."""
    tokens, columns = student.logits_TV.shape
    nothing = Pull(student.logits_TV, gain_T, gain_T)  # never read
    first, second = [*pulls, nothing, nothing][:2]
    assert len(pulls) <= 2
    with torch.cuda.device_of(student.logits_TV):
        _gradient[(tokens,)](
            student.logits_TV, student.normaliser_T, *first, *second, gain_T, target_T, out_TV, columns,
            PULLS=len(pulls), BLOCK=_BLOCK, num_warps=8,
        )  # fmt: skip


@triton.jit
def _normaliser(logits, result, columns, rows, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    largest = tl.full([BLOCK], -1e30, logits.dtype.element_ty)
    total = tl.zeros([BLOCK], logits.dtype.element_ty)
    for start in range(0, rows, BLOCK):
        at = start + tl.arange(0, BLOCK)
        value = tl.load(logits + token * columns + at, mask=at < rows, other=-float("inf"))
        higher = tl.maximum(largest, value)
        total = total * tl.exp(largest - higher) + tl.exp(value - higher)
        largest = higher
    top = tl.max(largest, 0)
    tl.store(result + token, top + tl.log(tl.sum(total * tl.exp(largest - top), 0)))


@triton.jit
def _measure(
    student, student_normaliser, other, other_normaliser, value, slope, columns, rows,
    KIND: tl.constexpr, W: tl.constexpr, OUTSIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    minus = tl.load(student_normaliser + token)
    minus_other = tl.load(other_normaliser + token)
    values = tl.zeros([BLOCK], student.dtype.element_ty)
    slopes = tl.zeros([BLOCK], student.dtype.element_ty)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        place = token * columns + at
        log_p = tl.load(student + place, mask=at < columns, other=0.0) - minus
        p = tl.where(at < columns, tl.exp(log_p), 0.0)
        log_q = tl.load(other + place, mask=at < rows, other=0.0) - minus_other
        log_q = tl.where(at < rows, log_q, OUTSIDE)
        q = tl.where(at < rows, tl.exp(log_q), 0.0)
        if KIND == 1:
            phi = q * (log_q - log_p)
            part = -q
        elif KIND == 2:
            phi = p * (log_p - log_q)
            part = phi
        elif KIND == 4:
            mixture = tl.maximum((1 - W) * q + W * p, 1.1754944e-38)
            phi = p * (log_p - tl.log(mixture))
            part = phi - W * p * p / mixture
        else:
            mixture = tl.maximum((1 - W) * p + W * q, 1.1754944e-38)
            log_m = tl.log(mixture)
            if KIND == 3:
                phi = q * (log_q - log_m)
                part = (W - 1) * p * q / mixture
            else:
                part = (1 - W) * p * (log_p - log_m)
                phi = part + W * q * (log_q - log_m)
        tl.store(other + place, part, mask=at < columns)
        values += phi
        slopes += part
    tl.store(value + token, tl.maximum(tl.sum(values, 0), 0.0))
    tl.store(slope + token, tl.sum(slopes, 0))


@triton.jit
def _gradient(
    student, normaliser, slopes, slope, weight, slopes_2, slope_2, weight_2, gain, target, out, columns,
    PULLS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    minus = tl.load(normaliser + token)
    raised = tl.load(gain + token)
    taken = tl.load(target + token)
    factor = raised
    if PULLS > 0:
        weighs = tl.load(weight + token)
        factor -= weighs * tl.load(slope + token)
    if PULLS > 1:
        weighs_2 = tl.load(weight_2 + token)
        factor -= weighs_2 * tl.load(slope_2 + token)
    for start in range(0, columns, BLOCK):
        at = start + tl.arange(0, BLOCK)
        place = token * columns + at
        p = tl.exp(tl.load(student + place, mask=at < columns, other=0.0) - minus)
        total = p * factor - tl.where(at == taken, raised, 0.0)
        if PULLS > 0:
            total += weighs * tl.load(slopes + place, mask=at < columns, other=0.0)
        if PULLS > 1:
            total += weighs_2 * tl.load(slopes_2 + place, mask=at < columns, other=0.0)
        tl.store(out + place, total, mask=at < columns)
