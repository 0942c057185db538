"""The log of a training run: metrics of every step, and what each response earned."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from masters.data.storage import Storage

METRICS = "train/metrics.jsonl"
REWARDS_FOLDER = "train/rewards"
MEASURED = ("time_", "tokens_per_second", "peak_memory_gib")
"""How the names of those numbers begin that a clock or the machine says. Everything else is computed, and the same run gives the
same bits."""
_GROUPS = ("gradient_norm", "log_probability", "divergence", "loss", "time", "n")


def read_metrics(run: Storage) -> list[dict[str, Any]]:
    """One row per step."""
    return [json.loads(line) for line in run.read(METRICS).decode().splitlines()]


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
