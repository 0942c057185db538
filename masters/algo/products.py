"""Products with an output head whose results are fp32 whatever comes in (float64 stays float64).

In bf16 a logit of 30 would be rounded by up to 0.1: enough to turn the ranking of a group around. Heads are widened a block
of rows at a time, never as a whole.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

_BLOCK, _BLOCK_CPU = 1 << 16, 1 << 10
"""Rows of the head that are widened, or columns of a gradient that are narrowed, at once: on CPUs what stays in the cache."""


def accumulation_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if one of them is, else fp32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def logits(hidden_TH: Tensor, weight_VH: Tensor, columns: int) -> Tensor:
    """Hidden states times the head's rows: [T, columns], fp32 or float64; what the head has no row for is left as it comes."""
    wide, rows = accumulation_dtype(hidden_TH, weight_VH), min(columns, weight_VH.shape[0])
    if _multiplies_bf16(hidden_TH, weight_VH):
        logits_TV = torch.mm(hidden_TH, weight_VH[:rows].T, out_dtype=torch.float32)
        return logits_TV if rows == columns else pad(logits_TV, (0, columns - rows))
    logits_TV = hidden_TH.new_empty(hidden_TH.shape[0], columns, dtype=wide)
    hidden_TH = hidden_TH.to(wide)
    for block in _blocks(rows, logits_TV):
        torch.mm(hidden_TH, weight_VH[block].to(wide).T, out=logits_TV[:, block])
    return logits_TV


def hidden_gradient(gradient_TV: Tensor, weight_VH: Tensor) -> Tensor:
    """Gradient at the hidden states from that at the logits over the whole head: [T, H], fp32 or float64."""
    if gradient_TV.dtype == weight_VH.dtype:
        return gradient_TV @ weight_VH
    total_TH = gradient_TV.new_zeros(gradient_TV.shape[0], weight_VH.shape[1])
    for block in _blocks(weight_VH.shape[0], gradient_TV):
        if _multiplies_bf16(weight_VH):
            narrow_TV = gradient_TV[:, block].bfloat16()
            total_TH += torch.mm(narrow_TV, weight_VH[block], out_dtype=torch.float32)
        else:
            total_TH.addmm_(gradient_TV[:, block], weight_VH[block].to(gradient_TV.dtype))
    return total_TH


def add_head_gradient_(total_VH: Tensor, gradient_TV: Tensor, hidden_TH: Tensor) -> None:
    """Add the head's gradient to `total_VH`, which is as wide as the gradient at the logits."""
    if not _multiplies_bf16(hidden_TH):
        total_VH.addmm_(gradient_TV.T, hidden_TH.to(gradient_TV.dtype))
        return
    for block in _blocks(total_VH.shape[0], gradient_TV):
        narrow_VT = gradient_TV[:, block].bfloat16().T
        total_VH[block] += torch.mm(narrow_VT, hidden_TH, out_dtype=torch.float32)


def _multiplies_bf16(*tensors: Tensor) -> bool:
    """Whether there are matrix units that take bf16 and sum in fp32; on CPUs torch would round the sums to bf16."""
    return all(tensor.is_cuda and tensor.dtype == torch.bfloat16 for tensor in tensors)


def _blocks(size: int, place: Tensor) -> Iterator[slice]:
    step = _BLOCK if place.is_cuda else _BLOCK_CPU
    return (slice(start, min(size, start + step)) for start in range(0, size, step))
