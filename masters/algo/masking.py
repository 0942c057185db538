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
_CHUNK = {"cpu": 1 << 19}  # elements: temporaries stay in a CPU's caches
_CHUNK_ELSEWHERE = 1 << 26  # a GPU waits once a chunk
_COARSE = {(torch.float32, "cpu"): 16, (torch.bfloat16, "cpu"): 0, (torch.float16, "cpu"): 0}
"""Lowest bits that the first histogram leaves out."""
_COARSE_ELSEWHERE = {torch.float32: 19, torch.bfloat16: 3, torch.float16: 3}  # 4,096 bins fit a GPU's shared memory
_BLOCK = 8  # elements that are looked at together


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


def mask_(flat: Tensor, patterns: Sequence[int], *, dtype: torch.dtype, slice_numel: int, start: int = 0) -> Tensor:
    """Zero in place the weights below their threshold (Eq. 2), in a flat piece of a tensor, where it lies.

    Args:
        flat: [n] contiguous piece of the flattened tensor: all of it, or the shard that one rank holds, which may be
            empty. Its dtype must hold every value of `dtype` exactly.
        patterns: one per slice, as `thresholds` returned them for one ratio.
        dtype: of the checkpoint that the patterns were taken from.
        slice_numel: weights per slice.
        start: index of flat[0] in the flattened tensor.

    Returns:
        How many weights were below: int64, no dimensions, on the same device, so that nobody has to wait for a GPU.

    Raises:
        ValueError: if `flat` is narrower than the checkpoint, so that masks would not be exact.
    """
    if not holds_exactly(flat.dtype, dtype):
        raise ValueError(
            f"weights in {flat.dtype} cannot be masked by thresholds of a {dtype} checkpoint: use {dtype} or fp32"
        )
    masked = torch.zeros((), dtype=torch.int64, device=flat.device)
    for piece, index in _pieces(flat.numel(), slice_numel, start):
        pattern = _convert(patterns[index], dtype, flat.dtype)
        if pattern == 0:  # nothing is below 0, not even -0
            continue
        part = flat[piece]
        # It zeroes |w| <= its number: that of the pattern before. NaN stays. Zeros are those below, then, and no others.
        torch.hardshrink(part, pattern_value(pattern - 1, flat.dtype), out=part)
        masked += part.numel() - torch.count_nonzero(part.view(_INTEGER[flat.dtype]))
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
    found = _at_ranks(weight.detach().reshape(-1), [min(rank, n - 1) for rank in ranks])
    return [(found[i][0] + 1, n) if rank == n else found[i] for i, rank in enumerate(ranks)]


def _at_ranks(weight: Tensor, ranks: Sequence[int]) -> list[tuple[int, int]]:
    """(pattern, number below it) at each rank: a histogram of the patterns' upper bits, then one of the lower bits of the
    weights in each bin that holds a wanted rank. Raises ValueError for NaN and infinity."""
    patterns, bits, device = weight.view(_INTEGER[weight.dtype]), _MAGNITUDE_BITS[weight.dtype], weight.device.type
    shift = _COARSE.get((weight.dtype, device), _COARSE_ELSEWHERE[weight.dtype])
    bins = (bits >> shift) + 1
    chunks = patterns.split(_CHUNK.get(device, _CHUNK_ELSEWHERE))
    counted = torch.zeros(bins, dtype=torch.int64, device=weight.device)
    buffers = [
        torch.empty_like(chunks[0]),
        *torch.empty((3, chunks[0].numel()), dtype=torch.int16, device=weight.device),
    ]
    for chunk in chunks:
        counted += torch.bincount(_upper(chunk, bits, shift, buffers), minlength=bins)
    counts = counted.cpu()
    if int(counts.nonzero()[-1]) << shift >= _INFINITY[weight.dtype]:
        raise ValueError("holds NaN or infinity")
    coarse = _select(counts, ranks)
    if shift == 0:
        return coarse
    wanted = sorted({bin_ for bin_, _ in coarse})
    near = torch.cat([_near(chunk, _upper(chunk, bits, shift, buffers), wanted, buffers) for chunk in chunks]) & bits
    lower = {
        bin_: torch.bincount(near[near >> shift == bin_] & ((1 << shift) - 1), minlength=1 << shift).cpu()
        for bin_ in wanted
    }
    result = []
    for rank, (bin_, before) in zip(ranks, coarse, strict=True):
        fine, below = _select(lower[bin_], [rank - before])[0]
        result.append(((bin_ << shift) | fine, before + below))
    return result


def _upper(patterns: Tensor, bits: int, shift: int, buffers: Sequence[Tensor]) -> Tensor:
    """The upper bits of magnitudes, 15 at most, in buffers: fresh memory costs a CPU more than what is done in it."""
    wide, upper = (buffer[: len(patterns)] for buffer in buffers[:2])
    torch.bitwise_and(patterns, bits, out=wide)
    if shift:
        wide.bitwise_right_shift_(shift)
    return wide if wide.dtype == torch.int16 else upper.copy_(wide)


def _near(patterns: Tensor, upper: Tensor, wanted: Sequence[int], buffers: Sequence[Tensor]) -> Tensor:
    """The patterns whose upper bits are wanted, and a few at the end that may not be; most blocks hold none of them."""
    hit, one = (buffer[: len(patterns)] for buffer in buffers[2:])
    hit.zero_()
    for bin_ in wanted:
        hit |= torch.eq(upper, bin_, out=one)  # as integers: a CPU compares them several times as fast as to bool
    whole = len(hit) - len(hit) % _BLOCK
    hit = hit[:whole].to(torch.int8)
    blocks = hit.view(torch.int64).nonzero()[:, 0]
    some, hits = (each.view(-1, _BLOCK).index_select(0, blocks) for each in (patterns[:whole], hit))
    return torch.cat([some[hits.bool()], patterns[whole:]])


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
