"""Checkpoints of the gang, and the log that belongs to them: after a resume both continue from the same step."""

import json
import tempfile
from typing import Any

import pyarrow as pa

from masters.data.metrics import METRICS, REWARDS_FOLDER, read_metrics
from masters.data.storage import Storage
from masters.data.tables import REWARDS
from masters.engines.zero3 import Zero3Student


class Logbook:
    """Metrics of every step (rank 0) and what each response earned (every rank), written with each checkpoint."""

    def __init__(self, run: Storage, rank: int):
        self._run, self._rank = run, rank
        self._rows: list[dict[str, Any]] = []
        self._responses: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any], responses: list[dict[str, Any]]) -> None:
        """One step."""
        self._rows.append(row)
        self._responses.extend(responses)

    def write(self, step: int) -> None:
        """Write what there is after `step` steps; writing it again gives the same files."""
        name = f"{REWARDS_FOLDER}/{step:08d}-{self._rank:04d}.parquet"
        self._run.write_table(name, pa.Table.from_pylist(self._responses, schema=REWARDS))
        self._responses.clear()
        if self._rank == 0:
            self._run.write(METRICS, "".join(json.dumps(row) + "\n" for row in self._rows).encode())

    def go_back(self, step: int) -> None:
        """Continue behind `step`: later rows, of an attempt that was cut off, are forgotten."""
        if self._rank == 0 and self._run.exists(METRICS):
            self._rows = [row for row in read_metrics(self._run) if row["step"] < step]

    def in_words(self, level: str) -> str:
        """The last step in one line."""
        row = self._rows[-1]
        shown = [
            f"{name} {row[key]:.3f}"
            for name, key in (("jsd", "divergence"), ("kl", "kl_nats"), ("nll", "loss_sft"))
            if key in row
        ]
        if "log_probability_right" in row and "log_probability_wrong" in row:
            shown.append(f"right-wrong logp {row['log_probability_right'] - row['log_probability_wrong']:+.2f}")
        return "  ".join([*shown, level])


def save(student: Zero3Student, logbook: Logbook, step: int) -> None:
    """All ranks: write the log, then hand the checkpoint after `step` steps to Ray Train."""
    import ray.train

    logbook.write(step)
    with tempfile.TemporaryDirectory() as folder:
        student.save(folder, {"step": step})
        ray.train.report({"step": step}, checkpoint=ray.train.Checkpoint.from_directory(folder))


def restore(student: Zero3Student, logbook: Logbook) -> int:
    """All ranks: take the run's last checkpoint, if there is one; the number of steps that are done."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    step = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            step = student.load(folder)["step"]
    logbook.go_back(step)
    return step
