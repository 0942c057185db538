"""The device that is looked at: the GPU where there is one, else the CPU with one thread; its clock and its memory."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import torch
from torch import Tensor

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
GB = 1e9
T = TypeVar("T")


def prepare() -> None:
    """fp32 is fp32, not TF32; one thread on a CPU; the same numbers each time."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if not GPU:
        torch.set_num_threads(1)
    torch.manual_seed(0)


def described() -> str:
    """The device, and the versions of what runs on it."""
    name = "CPU, one thread, small sizes: this says nothing of a GPU's speed"
    if GPU:
        card = torch.cuda.get_device_properties(0)
        name = f"{card.name}, {card.total_memory / GB:.0f} GB, CUDA {torch.version.cuda}"
    versions = [f"{package} {_version(package)}" for package in ("torch", "transformers", "triton", "deepspeed")]
    return f"{name}; {', '.join(versions)}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def sized(on_gpu: T, on_cpu: T) -> T:
    """What goes with the device."""
    return on_gpu if GPU else on_cpu


def seconds(function: Callable[[], Any], rounds: int = 3) -> float:
    """Median of some rounds behind one that does not count: wall time of a GPU that has nothing else to do, or CPU time."""
    taken = []
    for _ in range(rounds + 1):
        began = clock()
        function()
        taken.append(clock() - began)
    return statistics.median(taken[1:])


def clock() -> float:
    """Seconds; a GPU has then done all that it was given."""
    if not GPU:
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def held_gb() -> float:
    """What the GPU's tensors take; NaN on a CPU, where it is not measured."""
    return torch.cuda.memory_allocated() / GB if GPU else math.nan


def peak_gb(function: Callable[[], Any]) -> float:
    """The most that they take while a function runs, those beforehand included."""
    if not GPU:
        return math.nan
    torch.cuda.reset_peak_memory_stats()
    function()
    return torch.cuda.max_memory_allocated() / GB


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number that was expected."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Norm of the difference of all tensors together, relative to that of what was expected."""
    apart = sum(squared(found[name].float() - one.float()) for name, one in expected.items())
    return (apart / sum(squared(one) for one in expected.values())) ** 0.5


def squared(tensor: Tensor) -> float:
    """Sum of squares."""
    return float(tensor.detach().float().square().sum())
