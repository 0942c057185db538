"""The thresholds file of a teacher: kilobytes that, with the checkpoint, are every masked teacher (a virtual snapshot).

It is the only truth about masks: vLLM and ZeRO-3 both mask from it. Tensors are keyed by their names in the checkpoint files.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from masters.algo.masking import mask_, thresholds
from masters.algo.schedule import ratio_key
from masters.families import Family, MaskScope
from masters.models.checkpoint import tensors
from masters.models.folder import copy_all_but_weights, weight_files

UNMASKED = ratio_key(Decimal(0))


@dataclass(frozen=True)
class TensorThresholds:
    """Thresholds of one tensor.

    Attributes:
        dtype: of the checkpoint: bfloat16, float16 or float32.
        numel: number of weights.
        slices: parts along dim 0 that have a threshold of their own (stacked experts), else 1.
        patterns: ratio -> magnitude pattern of each slice; |w| below it is masked.
        masked: ratio -> how many weights are zeroed.
    """

    dtype: str
    numel: int
    slices: int
    patterns: Mapping[str, Sequence[int]]
    masked: Mapping[str, int]

    def apply_(self, flat: Tensor, ratio: str, start: int = 0) -> Tensor:
        """Mask a contiguous piece of the flattened tensor in place; `start` is the index of its first weight.

        Returns how many weights fell below their threshold, on the same device.
        """
        dtype = getattr(torch, self.dtype)
        return mask_(flat, self.patterns[ratio], dtype=dtype, slice_numel=self.numel // self.slices, start=start)


@dataclass(frozen=True)
class ThresholdsFile:
    """All thresholds of one teacher. `fingerprint` is the checkpoint's; `ratios` are written as in level names."""

    family: str
    scope: MaskScope
    fingerprint: str
    ratios: tuple[str, ...]
    tensors: Mapping[str, TensorThresholds]

    def to_json(self) -> dict[str, Any]:
        """Plain data for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ThresholdsFile":
        """From the plain data that `to_json` gave."""
        per_tensor = {name: TensorThresholds(**entry) for name, entry in data["tensors"].items()}
        return cls(**{**data, "ratios": tuple(data["ratios"]), "tensors": per_tensor})

    @classmethod
    def load(cls, path: str | Path) -> "ThresholdsFile":
        """From a local file."""
        return cls.from_json(json.loads(Path(path).read_text()))

    def check_ratio(self, ratio: str) -> None:
        """Raise ValueError unless thresholds of the ratio are in the file."""
        if ratio not in (*self.ratios, UNMASKED):
            raise ValueError(f"ratio {ratio}: thresholds were made for {', '.join(self.ratios)}")

    def check_count(self, name: str, ratio: str, below: int) -> None:
        """Raise ValueError unless as many weights of a whole tensor fall below the threshold as when it was taken."""
        expected = self.tensors[name].masked[ratio]
        if below != expected:
            raise ValueError(
                f"{name}: {below} weights fall below ratio {ratio}, {expected} expected: thresholds are of another checkpoint"
            )


def file_thresholds(
    folder: Path, file: str, family: Family, scope: MaskScope, ratios: Iterable[Decimal]
) -> dict[str, TensorThresholds]:
    """Thresholds of every tensor in scope of one safetensors file; one tensor is in memory at a time.

    Raises:
        ValueError: for a tensor of another dtype, or with NaN or infinity in it; the message names the tensor.
    """
    wanted, found = list(ratios), {}
    for name, weight in tensors(folder, file):
        if not family.in_scope(name, weight.shape, scope):
            continue
        slices = family.slices(name, weight.shape)
        try:
            result = thresholds(weight, wanted, slices)
        except ValueError as error:
            raise ValueError(f"{folder / file}: {name}: {error}") from error
        keys = [ratio_key(ratio) for ratio in wanted]
        found[name] = TensorThresholds(
            dtype=str(weight.dtype).removeprefix("torch."),
            numel=weight.numel(),
            slices=slices,
            patterns=dict(zip(keys, result.patterns, strict=True)),
            masked=dict(zip(keys, result.masked, strict=True)),
        )
    return found


def mask_tensor(name: str, weight: Tensor, file: ThresholdsFile, ratio: str) -> Tensor:
    """The masked copy of a whole checkpoint tensor; tensors out of scope and ratio 0 give the tensor itself.

    Raises:
        ValueError: where the tensor is not the one that the thresholds were taken from. The number of weights that fall
            below the threshold is compared too, so another checkpoint with the same shapes is found out.
    """
    ((_, masked),) = mask_tensors([(name, weight)], file, ratio)
    return masked


def mask_tensors(
    named: Iterable[tuple[str, Tensor]], file: ThresholdsFile, ratio: str, device: torch.device | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The same of many tensors, one at a time; what is masked is copied to a device first, where one is given.

    Raises:
        ValueError: as `mask_tensor`. Counts are compared behind the last tensor, so that nothing waits for a GPU.
    """
    counts = {}
    for name, weight in named:
        entry = file.tensors.get(name)
        if entry is None or ratio == UNMASKED:
            yield name, weight
            continue
        if weight.numel() != entry.numel or weight.dtype != getattr(torch, entry.dtype):
            raise ValueError(
                f"{name}: {weight.numel()} weights in {weight.dtype}; thresholds are of {entry.numel} in {entry.dtype}"
            )
        masked = torch.empty(weight.shape, dtype=weight.dtype, device=device or weight.device).copy_(weight)
        counts[name] = entry.apply_(masked.view(-1), ratio)
        yield name, masked
    if counts:
        for name, below in zip(counts, torch.stack(list(counts.values())).tolist(), strict=True):
            file.check_count(name, ratio, below)


def export_masked(folder: Path, file: ThresholdsFile, ratio: str, target: Path) -> None:
    """Write an ordinary checkpoint with the mask applied, shard by shard."""
    file.check_ratio(ratio)
    copy_all_but_weights(folder, target)
    for name in weight_files(folder):
        masked = dict(mask_tensors(tensors(folder, name), file, ratio))
        save_file(masked, target / name, metadata={"format": "pt"})
