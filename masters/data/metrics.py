"""The log of a training run: metrics of every step, and what each response earned."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from masters.data.storage import Storage

METRICS = "train/metrics.jsonl"
REWARDS_FOLDER = "train/rewards"
MEASURED = ("time_", "tokens_per_second", "peak_memory_gib")
"""How the names of those numbers begin that a clock or the machine says. Everything else is computed, and the same run gives the
same bits."""
_GROUPS = ("gradient_norm", "log_probability", "divergence", "loss", "time", "n")


def read_metrics(run: Storage) -> list[dict[str, Any]]:
    """One row per step."""
    return list(each_step(run))


def each_step(run: Storage) -> Iterator[dict[str, Any]]:
    """The same row by row, for those who keep little of each."""
    for line in run.read(METRICS).splitlines():
        yield json.loads(line)


def reward_files(run: Storage, positions: Iterable[int], total: int) -> list[str]:
    """The tables with what the responses to some train samples earned, by their names; `total` is the number of train samples.

    Every teacher's pass takes the samples in position order, so the sizes of the steps tell who met them when.
    """
    names = run.names(REWARDS_FOLDER, ".parquet")
    if not names or not total:
        return []
    ends = [
        int(name.rpartition("/")[2].partition("-")[0]) for name in names
    ]  # steps that were done when they were written
    last = sorted(set(ends))
    behind = np.cumsum([row["groups"] for row in each_step(run)])
    passes = range(0, int(behind[-1]), total)
    steps = np.searchsorted(behind, [start + position for start in passes for position in positions], "right")
    wanted = {last[place] for place in np.searchsorted(last, steps, "right") if place < len(last)}
    return [name for name, end in zip(names, ends, strict=True) if end in wanted]


def computed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what was measured: equal in every run of one recipe on one kind of machine."""
    return [{name: value for name, value in row.items() if not name.startswith(MEASURED)} for row in rows]


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row under the names that TensorBoard, W&B and MLflow group by what is before the slash."""
    numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
    return {_grouped(name): float(value) for name, value in numbers.items() if name not in ("step", "time_unix")}


def _grouped(name: str) -> str:
    for group in _GROUPS:
        if name == group or name.startswith(f"{group}_"):
            return f"{group}/{name[len(group) + 1 :] or 'all'}"
    return f"train/{name}"
