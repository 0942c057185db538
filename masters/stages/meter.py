"""What the engine of an actor does with its time, and the same summed up over a pool."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

SECONDS = ("busy", "waiting", "switching")
"""Of an engine that is there: a shard is on it; none is, for want of its images or of a shard; its mask changes."""


class Meter:
    """Every second of an engine from its first shard on, as one of SECONDS. Calls of the actor share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(SECONDS, 0.0)
        self._now: str | None = None
        self._since = 0.0
        self._inside = self._switches = 0

    def begin(self) -> None:
        """A shard is on the engine: it may begin again, for a part of its rows."""
        with self._lock:
            self._become("busy")

    @contextmanager
    def switching(self) -> Iterator[None]:
        """The engine's mask changes during the block."""
        with self._lock:
            self._become("switching")
            self._switches += 1
        yield
        with self._lock:
            self._become("waiting")

    def rest(self) -> None:
        """The engine ends; no second counts until the next one has its first shard."""
        with self._lock:
            self._become("waiting")
            self._now = None

    def leave(self, engine: Any) -> dict[str, Any]:
        """A shard is done; what was used since another one was.

        Seconds by SECONDS; `tokens` that the engine generated, and `slot_seconds`: seconds of full use of all the sequences
        that it decodes at once; `switches`; `process` that tells engines apart.
        """
        with self._lock:
            self._become("waiting")
            found = {f"{name}_seconds": seconds for name, seconds in self._seconds.items()}
            self._seconds = dict.fromkeys(SECONDS, 0.0)
            switches, self._switches = self._switches, 0
        tokens, slot_seconds = engine.used() if engine is not None else (0, 0.0)
        return {
            **found,
            "tokens": tokens,
            "slot_seconds": slot_seconds,
            "switches": switches,
            "process": f"{os.uname().nodename}/{os.getpid()}",
        }

    def _become(self, state: str) -> None:
        now = time.monotonic()
        if self._now is not None:
            self._seconds[self._now] += now - self._since
        self._now, self._since = state, now


def pool_use(receipts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over receipts of one pool; `engines` is how many there were, and shares are of their time."""
    seconds = {name: sum(receipt[f"{name}_seconds"] for receipt in receipts) for name in SECONDS}
    tokens, total = sum(receipt["tokens"] for receipt in receipts), sum(seconds.values())
    return {
        "engines": len({receipt["process"] for receipt in receipts}),
        "shards": len(receipts),
        "rejected": sum(receipt["rejected"] for receipt in receipts),
        "tokens": tokens,
        **{f"{name}_seconds": round(value, 3) for name, value in seconds.items()},
        "switches": sum(receipt["switches"] for receipt in receipts),
        "occupancy": round(sum(receipt["slot_seconds"] for receipt in receipts) / max(total, 1e-9), 4),
        "tokens_per_second": round(tokens / max(total, 1e-9), 1),
    }


def use_in_words(use: Mapping[str, Any]) -> str:
    """One line about a pool."""
    return (
        f"{use['engines']} engine{'s' * (use['engines'] != 1)}, {use['tokens_per_second']:,.0f} tokens/s each, "
        f"{100 * use['occupancy']:.0f} % of their sequences in use; "
        f"busy {use['busy_seconds']:,.0f} s, waited {use['waiting_seconds']:,.0f} s, "
        f"switched masks {use['switches']} times in {use['switching_seconds']:,.0f} s"
    )
