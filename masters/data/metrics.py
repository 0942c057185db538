"""The log of a training run: metrics of every step, and what each response earned."""

import json
from typing import Any

from masters.data.storage import Storage

METRICS = "train/metrics.jsonl"
REWARDS_FOLDER = "train/rewards"


def read_metrics(run: Storage) -> list[dict[str, Any]]:
    """One row per step."""
    return [json.loads(line) for line in run.read(METRICS).decode().splitlines()]
