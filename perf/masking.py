"""Masks and thresholds of a weight matrix, against what torch has: GB of weights in a second of CPU time, one thread.

A mask in place, with the count of what it masked, beside `torch.hardshrink` to a new matrix and in place, and beside a plain
copy. All thresholds of a matrix in one pass, beside `torch.kthvalue` once for every ratio. They find the same; that is
checked. The matrix has the shape of an up-projection of a 7 B model.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import torch
from torch import Tensor

from masters.algo.masking import mask_, pattern_value, thresholds

RATIOS = [Decimal(text) for text in ("0.20", "0.15", "0.10", "0.05")]
SHAPE, ROUNDS = (3584, 18944), 5


def by_kthvalue(weight: Tensor) -> list[float]:
    """The k-th smallest magnitude for every ratio."""
    magnitudes = weight.abs().float().flatten()
    return [float(magnitudes.kthvalue(int(ratio * magnitudes.numel()) + 1).values) for ratio in RATIOS]


def by_histogram(weight: Tensor) -> list[float]:
    """The same from our histogram of bit patterns."""
    return [pattern_value(pattern, weight.dtype) for (pattern,) in thresholds(weight, RATIOS).patterns]


def rates(weight: Tensor, ways: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median GB a CPU-second of each; they take turns, so that a machine that slows down slows all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            way()
            seconds[name].append(time.process_time() - began)
    return {name: weight.nbytes / 1e9 / statistics.median(taken) for name, taken in seconds.items()}


def masking(weight: Tensor) -> dict[str, float]:
    """A mask of ratio 0.20, and its rivals."""
    (pattern,) = thresholds(weight, RATIOS[:1]).patterns[0]
    below, target, flat = pattern_value(pattern - 1, weight.dtype), weight.clone(), weight.clone().view(-1)
    masked = int(mask_(flat, [pattern], dtype=weight.dtype, slice_numel=len(flat)))
    assert torch.equal(flat.view_as(weight), torch.hardshrink(weight, below))
    assert masked == int((weight.abs() < pattern_value(pattern, weight.dtype)).sum())
    return rates(
        weight,
        {
            "mask_": lambda: mask_(flat, [pattern], dtype=weight.dtype, slice_numel=len(flat)),
            "hardshrink, new": lambda: torch.hardshrink(weight, below),
            "hardshrink, in place": lambda: torch.hardshrink(target, below, out=target),
            "copy": lambda: target.copy_(weight),
        },
    )


def main() -> None:
    """All dtypes; kthvalue once, as it is slow, and for bf16 only."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    drawn = 0.02 * torch.randn(SHAPE)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        weight, name = drawn.to(dtype), str(dtype).removeprefix("torch.")
        found = masking(weight)
        ours = found["mask_"]
        shown = ", ".join(f"{way} {rate:.1f} ({ours / rate:.2f})" for way, rate in found.items() if way != "mask_")
        print(f"{name:<8} mask_ {ours:.1f} GB/CPU-s; its speed beside others': {shown}")
        found = rates(weight, {"thresholds": lambda weight=weight: by_histogram(weight)})
        print(f"{name:<8} thresholds of {len(RATIOS)} ratios {found['thresholds']:.2f} GB/CPU-s")
    weight = drawn.bfloat16()
    assert by_histogram(weight) == by_kthvalue(weight)
    ways = {"thresholds": lambda: by_histogram(weight), "kthvalue": lambda: by_kthvalue(weight)}
    found = rates(weight, ways, rounds=1)
    print(f"bfloat16 torch.kthvalue takes {found['thresholds'] / found['kthvalue']:.0f} times as long as thresholds")


if __name__ == "__main__":
    main()
