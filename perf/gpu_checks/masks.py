"""Thresholds and masks on the device against those on the CPU, and against a sort; how fast they are."""

import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from masters.algo.masking import mask_, pattern_value, thresholds
from masters.algo.schedule import ratio_key
from masters.families import FAMILIES
from masters.models.thresholds import TensorThresholds, ThresholdsFile, file_thresholds, mask_tensor
from perf.gpu_checks.lines import Line, check, timing
from perf.gpu_checks.machine import DEVICE, seconds, sized

RATIOS = [Decimal(text) for text in ("0.00", "0.05", "0.20", "0.5", "1")]
SHAPE, MATRIX = sized((1024, 4096), (64, 1024)), sized((3584, 18944), (256, 2048))
"""Of what is compared, and of what is timed: an up-projection of a 7B."""
NAME = "model.layers.0.mlp.up_proj.weight"


def drawn(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Weights on the CPU, among them zeros of both signs, ties, and the smallest and largest numbers of the dtype."""
    weight = (0.02 * torch.randn(shape)).to(dtype)
    flat, limits = weight.view(-1), torch.finfo(dtype)
    flat[:7] = torch.tensor([0.0, -0.0, limits.max, limits.min, limits.smallest_normal, limits.smallest_normal / 8, 1])
    flat[100 : 100 + flat.numel() // 8] = 0.004
    return weight


def bits(weight: Tensor) -> Tensor:
    """As integers on the CPU, so that zeros of both signs differ."""
    return weight.cpu().view(torch.int32 if weight.dtype == torch.float32 else torch.int16)


def masked(weight: Tensor, found: tuple[int, ...], dtype: torch.dtype, cuts: tuple[int, ...]) -> tuple[Tensor, int]:
    """A masked copy and how many weights were below, in pieces as ranks hold them."""
    flat, count = weight.clone().view(-1), 0
    for start, stop in zip((0, *cuts), (*cuts, flat.numel()), strict=True):
        count += int(mask_(flat[start:stop], found, dtype=dtype, slice_numel=flat.numel() // len(found), start=start))
    return flat, count


def compared(dtype: torch.dtype, slices: int) -> Line:
    """Thresholds and masked bits of all ratios, whole and in pieces, in the checkpoint's dtype and in fp32."""
    weight = drawn(SHAPE, dtype)
    here, there = (thresholds(given, RATIOS, slices) for given in (weight, weight.to(DEVICE)))
    different = sum(a != b for a, b in zip(here.patterns, there.patterns, strict=True))
    different += sum(a != b for a, b in zip(here.masked, there.masked, strict=True))
    ordered = weight.float().abs().view(slices, -1).sort(1).values
    unsorted = sum(
        pattern_value(pattern, dtype) != float(ordered[index, int(ratio * ordered.shape[1])])
        for ratio, patterns in zip(RATIOS[:-1], there.patterns, strict=False)
        for index, pattern in enumerate(patterns)
    )
    wrong_bits = wrong_counts = 0
    for cuts in ((), (1001, weight.numel() // 2 + 3)):
        for patterns, count in zip(here.patterns, here.masked, strict=True):
            for wide in {dtype, torch.float32}:
                (one, _), (other, below) = (
                    masked(given.to(wide), patterns, dtype, pieces)
                    for given, pieces in ((weight, ()), (weight.to(DEVICE), cuts))
                )
                wrong_bits += int((bits(one) != bits(other)).sum())
                wrong_counts += below != count
    return check(
        f"masks, {str(dtype).removeprefix('torch.')}, {slices} threshold{'s' * (slices > 1)} a ratio",
        "the CPU bit for bit, a sort",
        thresholds=(different + unsorted, 0),
        weights=(wrong_bits, 0),
        counts=(wrong_counts, 0),
    )


def through_a_file() -> Line:
    """A checkpoint's thresholds as `mask` writes them, applied by name on the device; and another checkpoint is refused."""
    weight, family = drawn(SHAPE, torch.bfloat16), FAMILIES["qwen2_5_vl"]
    with tempfile.TemporaryDirectory() as folder:
        save_file({NAME: weight}, Path(folder) / "model.safetensors")
        entries = file_thresholds(Path(folder), "model.safetensors", family, "linear", RATIOS)
    written = ThresholdsFile(family.name, "linear", "", tuple(ratio_key(ratio) for ratio in RATIOS), entries)
    file, wrong, accepted = ThresholdsFile.from_json(written.to_json()), 0, 0
    other = weight.clone().view(-1)
    other[(other.abs() < 0.003).nonzero()[0]] = 1.0
    for ratio in file.ratios[1:]:
        one, found = (mask_tensor(NAME, given, file, ratio) for given in (weight, weight.to(DEVICE)))
        wrong += int((bits(one) != bits(found)).sum())
    try:
        mask_tensor(NAME, other.view(SHAPE).to(DEVICE), file, "0.20")
        accepted = 1
    except ValueError:
        pass
    return check(
        "masks, through a thresholds file", "the CPU bit for bit", weights=(wrong, 0), others_accepted=(accepted, 0)
    )


def times(dtype: torch.dtype) -> Iterator[Line]:
    """GB of weights a second; of a mask the count is part."""
    weight = (0.02 * torch.randn(MATRIX)).to(dtype)
    name = str(dtype).removeprefix("torch.")
    on_device, size, ratios = weight.to(DEVICE), weight.nbytes / 1e9, RATIOS[1:3]
    (pattern,) = thresholds(weight, ratios).patterns[1]
    entry = TensorThresholds(name, weight.numel(), 1, {"0.20": [pattern]}, {"0.20": 0})

    def rate(given: Tensor, what: str) -> float:
        masked, target = given.clone().view(-1), torch.empty_like(given)
        runs = {
            "thresholds": lambda: thresholds(given, ratios),
            "masking": lambda: entry.apply_(masked, "0.20"),
            "copying": lambda: target.copy_(given),
        }
        return size / seconds(runs[what])

    copying = rate(on_device, "copying")
    for what, label in (("masking", "masking a matrix"), ("thresholds", f"thresholds of {len(ratios)} ratios")):
        found = rate(on_device, what)
        label = f"{label}, {name}, {found:.1f} GB/s"
        yield timing(label, "copying it", f"it takes {found / copying:.3f} times as long")
        yield timing(label, "this machine's CPU", f"it takes {found / rate(weight, what):.1f} times as long")


def run() -> Iterator[Line]:
    """All lines of this part."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for slices in (1, 4):
            yield compared(dtype, slices)
    yield through_a_file()
    for dtype in (torch.bfloat16, torch.float32):
        yield from times(dtype)
