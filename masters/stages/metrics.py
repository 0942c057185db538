"""What Prometheus can ask of a run, through Ray's own exporter: every name gets the prefix `ray_` there.

Counters are kept by the actors that do the work, gauges by the driver; they cost a few calls per shard or step.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from masters.reporting.progress import Tracker
from masters.stages.meter import SECONDS

COUNTERS = {
    "masters_rows": ("Rows of finished shards: done, rejected, or null (a verdict, among the done).", ("stage", "outcome")),
    "masters_tokens": ("Generated tokens, by author: a level or the student.", ("author",)),
    "masters_engine_switches": ("Changes of the mask ratio, or of the model, in a living actor.", ("stage",)),
    "masters_engine_seconds": ("What engines do: busy, waiting (for images or a shard) or switching masks.", ("stage", "state")),
    "masters_engine_slot_seconds": ("Seconds of full use of the sequences that an engine decodes at once.", ("stage",)),
    "masters_lost_attempts": ("Shards found begun by an actor that died without an error: preemptions.", ("stage",)),
}  # fmt: skip
GAUGES = {
    "masters_stage_rows": ("Rows, questions or steps of the stage that runs, by state: done or wanted.", ("stage", "state")),
    "masters_train_loss": ("Terms of the last training step, as in train/metrics.jsonl.", ("term",)),
    "masters_train_seconds": ("Seconds of the last training step, by part.", ("part",)),
    "masters_train_tokens_per_second": ("Tokens through the student, over all workers.", ()),
    "masters_train_peak_memory_gib": ("Of the worker that used most, so far.", ()),
}  # fmt: skip

_OF_A_STEP = (
    ("loss_", "masters_train_loss", "term"),
    ("time_", "masters_train_seconds", "part"),
    ("tokens_per_second", "masters_train_tokens_per_second", None),
    ("peak_memory_gib", "masters_train_peak_memory_gib", None),
)
"""How names in a row of train/metrics.jsonl begin, the gauge, and the tag that holds the rest of the name."""
_AGAIN = 5.0  # seconds


def count_shard(stage: str, author: str, table: pa.Table, rejected: int) -> None:
    """A shard was committed."""
    null = table["verdict"].null_count if "verdict" in table.column_names else 0
    for outcome, count in (("done", table.num_rows), ("rejected", rejected), ("null", null)):
        if count:  # a counter takes no 0
            _metric("masters_rows").inc(count, {"stage": stage, "outcome": outcome})
    if "token_ids" in table.column_names:
        tokens = pc.sum(pc.list_value_length(table["token_ids"])).as_py()
        if tokens:
            _metric("masters_tokens").inc(tokens, {"author": author})


def count_switch(stage: str) -> None:
    """An actor's engine changed its ratio, or was replaced by another model's."""
    _metric("masters_engine_switches").inc(1, {"stage": stage})


def count_use(stage: str, use: Mapping[str, Any]) -> None:
    """How an engine's time went, as `masters.stages.meter` says it."""
    for state in SECONDS:
        if use[f"{state}_seconds"]:
            _metric("masters_engine_seconds").inc(use[f"{state}_seconds"], {"stage": stage, "state": state})
    if use["slot_seconds"]:
        _metric("masters_engine_slot_seconds").inc(use["slot_seconds"], {"stage": stage})


def count_lost_attempt(stage: str) -> None:
    """Whoever had begun the shard died."""
    _metric("masters_lost_attempts").inc(1, {"stage": stage})


@contextmanager
def showing(stage: str, tracker: Tracker) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Where the stage stands, on the driver, until the block ends: set again and again, since Ray forgets a gauge after 20 s.

    Gives a function that takes what a training step found.
    """
    row: dict[str, Any] = {}
    ended = threading.Event()

    def show() -> None:
        for state, rows in (("done", tracker.done), ("wanted", tracker.total)):
            _metric("masters_stage_rows").set(rows, {"stage": stage, "state": state})
        for name, value in row.copy().items():
            for start, metric, tag in _OF_A_STEP:
                if name.startswith(start) and name != "time_unix":
                    _metric(metric).set(value, {tag: name.removeprefix(start)} if tag else {})

    def show_again() -> None:
        while not ended.wait(_AGAIN):
            show()

    show()
    thread = threading.Thread(target=show_again, daemon=True)
    thread.start()
    try:
        yield row.update
    finally:
        ended.set()
        thread.join()
        show()


@functools.cache
def _metric(name: str) -> Any:
    """One of each per process, made when it is first needed: Ray must be connected then."""
    from ray.util.metrics import Counter, Gauge

    kind, (description, tags) = (Counter, COUNTERS[name]) if name in COUNTERS else (Gauge, GAUGES[name])
    return kind(name, description, tags)
