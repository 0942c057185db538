"""Where the time of training goes: seconds by part, from the end of one step to the end of the next."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

PARTS = ("data", "teacher", "frozen", "student", "objective", "optimiser", "saving")
"""Waiting for the batches of the step; loading and masking the teacher; forwards of teacher and reference; forward and backward
of the student; the objective inside its forward; the update; and checkpoints and students that were written behind the step
before."""
_REST = "rest"


class Clock:
    """A stop-watch with one hand: a part that begins inside another one interrupts it, so that no second counts twice.

    A GPU is behind the Python code that feeds it. Reading time there would tell who waits for whom in Python, and waiting for
    the GPU first would make it idle. So a mark is an event in the stream of the models, which costs microseconds; events are
    read once a step, where the ranks exchange their metrics and wait for the GPU anyway.

    Args:
        device: whose work is timed.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self._device = torch.device(device)
        self._open = [_REST]
        self._marks = [(_REST, self._now())]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What happens inside belongs to a part, one of `PARTS`."""
        if name not in PARTS:
            raise KeyError(name)
        self._open.append(name)
        self._mark()
        try:
            yield
        finally:
            self._open.pop()
            self._mark()

    def lap(self) -> dict[str, float]:
        """Seconds of each part since the last lap; `step` is all of it, what belongs to no part included."""
        self._mark()
        if self._device.type == "cuda":
            self._marks[-1][1].synchronize()
        seconds = dict.fromkeys((*PARTS, _REST), 0.0)
        for (name, begin), (_, end) in pairwise(self._marks):
            seconds[name] += begin.elapsed_time(end) / 1000 if self._device.type == "cuda" else end - begin
        self._marks = self._marks[-1:]
        step = sum(seconds.values())
        del seconds[_REST]
        return {**seconds, "step": step}

    def peak_memory_gib(self) -> float:
        """The most memory that was in use until now, in GiB: tensors on the GPU, or the whole process on a CPU."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB

    def _mark(self) -> None:
        self._marks.append((self._open[-1], self._now()))

    def _now(self) -> Any:
        """A time that can be taken from another one: seconds, or an event of the GPU."""
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
