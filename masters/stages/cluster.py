"""The Ray cluster that stages run on: the one that RAY_ADDRESS names, or one on this machine that ends with the driver."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from masters.config.resources import TaskResources

_END = "end"


def connect() -> None:
    """Connect once. From then on SIGTERM interrupts the driver like Ctrl-C: Ray's handler would end it without a word."""
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = signal.getsignal(signal.SIGTERM)
    # Without an address Ray would join any cluster that it finds on this machine, and end with it.
    ray.init(address=os.environ.get("RAY_ADDRESS") or "local", log_to_driver=True)
    signal.signal(signal.SIGTERM, before if callable(before) else _interrupt)  # one that interrupts may be there
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


@contextmanager
def heard(show: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """A function that tasks and workers call; what it is told is passed to `show` here, on the driver, while the block runs.

    The queue lives where the driver does: on a spot node it would keep that node, or go with it.
    """
    import ray
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})

    def listen() -> None:
        while (item := queue.get()) != _END:
            show(item)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield queue.put
    finally:
        queue.put(_END)
        thread.join()
        queue.shutdown(force=True)


def remote_options(resources: TaskResources, gpus: float = 0) -> dict[str, Any]:
    """Ray's options for one task or actor."""
    options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": gpus}
    if resources.memory_gib:
        options["memory"] = int(resources.memory_gib * 2**30)
    if resources.labels:
        options["label_selector"] = resources.labels
    return options
