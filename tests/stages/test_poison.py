"""Rows that an engine fails on, in a real pool of Ray actors that die and are replaced. The task needs no model."""

import os
from dataclasses import dataclass

import pyarrow as pa
import pytest
import ray

from masters.config.resources import PoolResources
from masters.data.shards import cut
from masters.data.storage import Storage
from masters.data.tables import PREDICTIONS
from masters.reporting.progress import Tracker
from masters.stages.shard_pool import Job, run_shards

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


@dataclass(frozen=True)
class Task:
    """Fails on some rows; `how` is `raise`, or `storage` for an error that is no row's."""

    bad: tuple[str, ...]
    how: str = "raise"
    stage: str = "evaluate"
    folder: str = "answers"

    def rows(self, run, shard):
        return [{"sample_id": f"row-{n:02d}"} for n in range(shard.start, shard.stop)]

    def compute(self, shard, rows, ready):
        found = sorted(set(self.bad) & {row["sample_id"] for row in rows})
        if found and self.how == "raise":
            raise RuntimeError(f"cannot take {found[0]}")
        if found:
            raise OSError("the bucket does not answer")
        records = [{**row, "question_type": "", "text": "", "correct": True} for row in rows]
        return pa.Table.from_pylist(records, schema=PREDICTIONS)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(address="local", num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


def run_task(folder, task, rows=12, size=6):
    run = Storage(os.fspath(folder))
    tracker = Tracker(rows, "rows", 0, lambda _: None)
    jobs = [Job(task, list(cut("student", "0.00", "test", 0, rows, size)), "models", PoolResources(cpus=1))]
    return run, run_shards(jobs, run, tracker)["models"]


def test_one_row_is_rejected_with_its_reason_and_the_others_are_answered(tmp_path):
    run, use = run_task(tmp_path, Task(("row-04",)))
    assert (use["shards"], use["rejected"]) == (2, 1)
    answered = run.read_tables(run.names("answers"), PREDICTIONS)["sample_id"].to_pylist()
    assert answered == [f"row-{n:02d}" for n in range(12) if n != 4]
    (name,) = run.names("rejects/evaluate")
    (reject,) = run.read_table(name).to_pylist()
    assert reject["row"] == "row-04"
    assert reject["detail"] == "RuntimeError: cannot take row-04"
    assert run.names("failures") == []


def test_storage_that_fails_is_no_rows_fault(tmp_path):
    with pytest.raises(Exception, match="the bucket does not answer"):
        run_task(tmp_path, Task(("row-00",), how="storage"), rows=1, size=1)
    assert Storage(os.fspath(tmp_path)).names("rejects") == []
    _, use = run_task(tmp_path, Task(()), rows=1, size=1)
    assert (use["shards"], use["rejected"]) == (1, 0)
