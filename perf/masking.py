"""All thresholds of a weight matrix in one pass, against torch.kthvalue once for every ratio: ratios of CPU time, one thread.

Both find the same thresholds; that is checked. The matrix has the shape of an up-projection of a 7 B model, in bf16.
"""

import statistics
import time
from decimal import Decimal

import torch

from masters.algo.masking import thresholds

RATIOS = [Decimal(text) for text in ("0.20", "0.15", "0.10", "0.05")]
SHAPE, ROUNDS = (3584, 18944), 3


def by_kthvalue(weight: torch.Tensor) -> list[float]:
    """The k-th smallest magnitude for every ratio."""
    magnitudes = weight.abs().float().flatten()
    return [float(magnitudes.kthvalue(int(ratio * magnitudes.numel()) + 1).values) for ratio in RATIOS]


def by_histogram(weight: torch.Tensor) -> list[float]:
    """The same from our histogram of bit patterns."""
    patterns = [pattern for (pattern,) in thresholds(weight, RATIOS).patterns]
    return torch.tensor(patterns, dtype=torch.int16).view(torch.bfloat16).float().tolist()


def main() -> None:
    """Both in turn, so that a machine that slows down slows both."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    weight = (0.02 * torch.randn(SHAPE)).bfloat16()
    seconds: dict[str, list[float]] = {"histogram": [], "kthvalue": []}
    for _ in range(ROUNDS):
        found = {}
        for name, function in (("histogram", by_histogram), ("kthvalue", by_kthvalue)):
            began = time.process_time()
            found[name] = function(weight)
            seconds[name].append(time.process_time() - began)
        assert found["histogram"] == found["kthvalue"], found
    ratios = [slow / fast for slow, fast in zip(seconds["kthvalue"], seconds["histogram"], strict=True)]
    for name, values in seconds.items():
        print(
            f"{name:<10} {statistics.median(values):6.2f} CPU-s for {len(RATIOS)} ratios of {weight.numel():,} weights"
        )
    print(
        f"torch.kthvalue takes {statistics.median(ratios):.1f} times as long ({min(ratios):.1f} to {max(ratios):.1f})"
    )


if __name__ == "__main__":
    main()
