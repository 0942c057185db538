"""Magnitude masking of weight matrices (Eq. 1-2), exact for every float dtype and with memory bounded by one tensor.

For sign-magnitude floats the order of |w| is the order of the bits below the sign, read as an integer: the *pattern*.
A threshold is such a pattern, so no comparison is ever rounded. Rule: k = floor(r * n) exact, lambda = the k-th smallest
|w| counted from 0, weights with |w| < lambda become +0, ties with lambda are kept; r = 1 masks everything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import torch
from torch import Tensor

_INTEGER = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}
_MAGNITUDE_BITS = {torch.bfloat16: 0x7FFF, torch.float16: 0x7FFF, torch.float32: 0x7FFF_FFFF}
_INFINITY = {torch.bfloat16: 0x7F80, torch.float16: 0x7C00, torch.float32: 0x7F80_0000}
_CHUNK = 1 << 22
_BINS = 1 << 15


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one tensor, in the order of the ratios that were asked for.

    Attributes:
        patterns: for each ratio one pattern per slice (a matrix has one slice, a stack of experts one per expert).
        masked: for each ratio how many weights are zeroed, all slices together.
    """

    patterns: tuple[tuple[int, ...], ...]
    masked: tuple[int, ...]


def thresholds(weight: Tensor, ratios: Sequence[Decimal], slices: int = 1) -> Thresholds:
    """Exact order-statistic thresholds of all ratios from a histogram of magnitude patterns.

    Args:
        weight: bf16, fp16 or fp32, any shape with dim 0 divisible into `slices`; finite. Where it or its slices are empty
            there is nothing to mask: patterns and counts are 0.
        ratios: each in [0, 1].
        slices: leading slices that get a threshold of their own.

    Raises:
        ValueError: for another dtype, and for NaN or infinity.
    """
    if weight.dtype not in _INTEGER:
        raise ValueError(f"dtype {weight.dtype}: masking knows {', '.join(map(str, _INTEGER))}")
    rows = weight.reshape(slices, weight.numel() // max(1, slices))
    per_slice = [_slice_thresholds(part, ratios) for part in rows]
    return Thresholds(
        patterns=tuple(tuple(part[i][0] for part in per_slice) for i in range(len(ratios))),
        masked=tuple(sum(part[i][1] for part in per_slice) for i in range(len(ratios))),
    )


def mask_(flat: Tensor, patterns: Sequence[int], *, dtype: torch.dtype, slice_numel: int, start: int = 0) -> int:
    """Zero in place the weights below their threshold (Eq. 2), in a flat piece of a tensor. Returns how many they were.

    Args:
        flat: [n] contiguous piece of the flattened tensor: all of it, or the shard that one rank holds, which may be
            empty. Its dtype must hold every value of `dtype` exactly.
        patterns: one per slice, as `thresholds` returned them for one ratio.
        dtype: of the checkpoint that the patterns were taken from.
        slice_numel: weights per slice.
        start: index of flat[0] in the flattened tensor.

    Raises:
        ValueError: if `flat` is narrower than the checkpoint, so that masks would not be exact.
    """
    if not holds_exactly(flat.dtype, dtype):
        raise ValueError(
            f"weights in {flat.dtype} cannot be masked by thresholds of a {dtype} checkpoint: use {dtype} or fp32"
        )
    bits, masked = flat.view(_INTEGER[flat.dtype]), 0
    for piece, index in _pieces(flat.numel(), slice_numel, start):
        part = bits[piece]
        below = (part & _MAGNITUDE_BITS[flat.dtype]) < _convert(patterns[index], dtype, flat.dtype)
        part.masked_fill_(below, 0)
        masked += int(below.sum())
    return masked


def holds_exactly(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Whether every value of `narrow` is a value of `wide`: the same dtype, or fp32."""
    return wide in _INTEGER and (wide == narrow or wide == torch.float32)


def pattern_value(pattern: int, dtype: torch.dtype) -> float:
    """The magnitude that a pattern stands for."""
    return torch.tensor([pattern], dtype=torch.int64).to(_INTEGER[dtype]).view(dtype).double().item()


def _slice_thresholds(weight: Tensor, ratios: Sequence[Decimal]) -> list[tuple[int, int]]:
    """(pattern, number below it) for each ratio."""
    n = weight.numel()
    if n == 0:
        return [(0, 0)] * len(ratios)
    ranks = [int(Fraction(ratio) * n) for ratio in ratios]
    patterns = weight.detach().reshape(-1).view(_INTEGER[weight.dtype])
    find = _ranks_32 if weight.dtype == torch.float32 else _ranks_16
    found = find(patterns, [*ranks, n - 1])
    largest = found[-1][0]
    if largest >= _INFINITY[weight.dtype]:
        raise ValueError("holds NaN or infinity")
    return [(largest + 1, n) if rank == n else found[i] for i, rank in enumerate(ranks)]


def _ranks_16(patterns: Tensor, ranks: Sequence[int]) -> list[tuple[int, int]]:
    counts = torch.zeros(_BINS, dtype=torch.int64)
    for chunk in patterns.split(_CHUNK):
        counts += torch.bincount(chunk & 0x7FFF, minlength=_BINS).cpu()
    return _select(counts, ranks)


def _ranks_32(patterns: Tensor, ranks: Sequence[int]) -> list[tuple[int, int]]:
    """Two levels: a histogram of the upper 15 bits, then one of the lower 16 bits in each bin that holds a wanted rank."""
    upper = torch.zeros(_BINS, dtype=torch.int64)
    for chunk in patterns.split(_CHUNK):
        upper += torch.bincount((chunk >> 16) & 0x7FFF, minlength=_BINS).cpu()
    coarse = _select(upper, ranks)
    lower = {bin_: torch.zeros(1 << 16, dtype=torch.int64) for bin_, _ in coarse}
    for chunk in patterns.split(_CHUNK):
        bins = (chunk >> 16) & 0x7FFF
        for bin_, counts in lower.items():
            counts += torch.bincount(chunk[bins == bin_] & 0xFFFF, minlength=1 << 16).cpu()
    result = []
    for rank, (bin_, before) in zip(ranks, coarse, strict=True):
        fine, below = _select(lower[bin_], [rank - before])[0]
        result.append(((bin_ << 16) | fine, before + below))
    return result


def _select(counts: Tensor, ranks: Sequence[int]) -> list[tuple[int, int]]:
    """For each rank the bin that holds it (the last bin for a rank past the end) and how many lie in the bins before it."""
    ends = counts.cumsum(0)
    last = int(counts.nonzero()[-1])
    bins = torch.searchsorted(ends, torch.tensor(ranks), right=True).clamp_max(last)
    return [(int(b), int(ends[b] - counts[b])) for b in bins]


def _pieces(numel: int, slice_numel: int, start: int) -> Iterator[tuple[slice, int]]:
    """Cut [start, start + numel) of a flattened tensor at slice borders: (where in the piece, which slice)."""
    position = 0
    while position < numel:
        index, offset = divmod(start + position, slice_numel)
        end = min(numel, position + slice_numel - offset)
        yield slice(position, end), index
        position = end


def _convert(pattern: int, source: torch.dtype, target: torch.dtype) -> int:
    if source == target:
        return pattern
    value = torch.tensor([pattern], dtype=torch.int64).to(_INTEGER[source]).view(source).to(target)
    return int(value.view(_INTEGER[target]))
