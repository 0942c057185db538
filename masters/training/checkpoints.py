"""Checkpoints of the gang, and the log that belongs to them: after a resume both continue from the same step."""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch.distributed as dist
from pyarrow.fs import LocalFileSystem

from masters.config.train import TrainConfig
from masters.data.metrics import METRICS, REWARDS_FOLDER, read_metrics
from masters.data.storage import Storage
from masters.data.tables import REWARDS
from masters.engines.zero3 import Zero3Student
from masters.training.event_files import forget_events, write_events
from masters.training.space import CHECKPOINTS, scratch_folder

NOTICE_SECONDS = 5.0
"""Between two questions whether a node is leaving; Ray Train looks as often."""


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
            write_events(self._run, self._rows)

    def go_back(self, step: int) -> None:
        """Continue behind `step`: what was written later, by an attempt that was cut off, is forgotten."""
        if self._rank:
            return
        for name in self._run.names(REWARDS_FOLDER, ".parquet"):
            if int(name.rpartition("/")[2].partition("-")[0]) > step:  # the next checkpoint may be behind another step
                self._run.delete(name)
        if self._run.exists(METRICS):
            self._rows = [row for row in read_metrics(self._run) if row["step"] < step]
            forget_events(self._run, step)

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


class Checkpoints:
    """When the gang's checkpoints are due, where they lie until they are stored, and where training goes on.

    Every rank calls every method, behind the same steps. While a checkpoint is on its way to storage training goes on; the
    next one waits for it. The log is written first, so it may be ahead of the last checkpoint that is whole, never behind.

    Args:
        train: `checkpoint_every`, `checkpoint_minutes` and `scratch` are read.
        run: the run directory.
        student: what is saved.
        logbook: what belongs to it.
    """

    def __init__(self, train: TrainConfig, run: Storage, student: Zero3Student, logbook: Logbook):
        self._every, self._seconds = train.checkpoint_every, 60 * train.checkpoint_minutes
        self._run, self._student, self._logbook = run, student, logbook
        self._folder = scratch_folder(train) / f"masters-{hashlib.sha256(run.uri.encode()).hexdigest()[:16]}"
        self._saved = self._asked = time.monotonic()
        self._leaving = False

    def restore(self) -> int:
        """Take the run's last checkpoint, if there is one, whatever number of ranks wrote it; the steps that are done."""
        import ray.train

        first_here = ray.train.get_context().get_local_rank() == 0
        checkpoint, step = ray.train.get_checkpoint(), 0
        if first_here:
            shutil.rmtree(self._folder, ignore_errors=True)  # left by an attempt that was cut off
            self._folder.mkdir(parents=True, exist_ok=True)
        dist.barrier()
        if checkpoint is not None:
            folder = self._folder / "stored"
            if isinstance(checkpoint.filesystem, LocalFileSystem):
                folder = Path(checkpoint.path)
            elif first_here:  # alone: Ray would fetch it again for a rank that comes later, over what others read
                checkpoint.to_directory(folder)
            dist.barrier()
            step = self._student.load(folder, self._folder)["step"]
            dist.barrier()
            if first_here:
                shutil.rmtree(self._folder / "stored", ignore_errors=True)
        if dist.get_rank() == 0:
            self._delete_parts()
        self._logbook.go_back(step)
        return int(step)

    def after_step(self, step: int, *, last: bool) -> None:
        """Write a checkpoint behind `step` steps if one is due.

        It is behind every `checkpoint_every`-th step, behind the last one, and when rank 0's clock says so. From the moment
        on that a node of the gang is known to be leaving it is behind every step, and stored before the next one begins: at
        most the step under way is lost.
        """
        by_clock = self._listen()
        if last or by_clock or self._leaving or step % self._every == 0:
            self._save(step)

    def _listen(self) -> bool:
        """Whether it is time, by rank 0's clock; at intervals by the same clock, whether a node is leaving."""
        import ray.train

        now = time.monotonic()
        said = [now - self._saved >= self._seconds, not self._leaving and now - self._asked >= NOTICE_SECONDS]
        dist.broadcast_object_list(said, src=0)
        by_clock, ask = said
        if ask:  # a collective of Ray's: all ranks or none
            self._leaving = ray.train.get_preemption_info() is not None
            self._asked = time.monotonic()
        return by_clock

    def _save(self, step: int) -> None:
        import ray.train

        _whole()  # scratch has room for one
        self._logbook.write(step)
        folder = self._folder / f"{step:08d}-{dist.get_rank():04d}"
        self._student.save(folder, {"step": step})
        ray.train.report(
            {"step": step},
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )
        if self._leaving:
            _whole()
        self._saved = time.monotonic()

    def _delete_parts(self) -> None:
        """Of checkpoints whose upload was cut off: Ray knows nothing of them."""
        whole, names = _whole(), self._run.names(CHECKPOINTS)
        there = {name.split("/")[2] for name in names if name.count("/") > 2}
        for name in sorted(there - whole):
            self._run.delete(f"{CHECKPOINTS}/{name}")


def _whole() -> set[str]:
    """Names of the checkpoints that are stored, from all ranks; waits for the one that is on its way."""
    import ray.train

    reported = ray.train.get_all_reported_checkpoints(ray.train.CheckpointConsistencyMode.COMMITTED)
    return {Path(found.checkpoint.path).name for found in reported}
