"""The Ray cluster that stages run on: the one that RAY_ADDRESS names, or one on this machine that ends with the driver."""

import os
import signal
import sys
from types import FrameType
from typing import Any

from masters.config.resources import TaskResources


def connect() -> None:
    """Connect once. From then on SIGTERM interrupts the driver like Ctrl-C: Ray's handler would end it without a word."""
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without an address Ray would join any cluster that it finds on this machine, and end with it.
    ray.init(address=os.environ.get("RAY_ADDRESS") or "local", log_to_driver=True)
    signal.signal(signal.SIGTERM, _interrupt)
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def disconnect() -> None:
    """Leave the cluster; one that this driver started ends."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


def remote_options(resources: TaskResources, gpus: int = 0) -> dict[str, Any]:
    """Ray's options for one task or actor."""
    options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": gpus}
    if resources.memory_gib:
        options["memory"] = int(resources.memory_gib * 2**30)
    if resources.labels:
        options["label_selector"] = resources.labels
    return options
