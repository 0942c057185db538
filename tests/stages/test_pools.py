"""Pools of a stage on two local nodes of different labels. The tasks need no model: what is looked at is where and when."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from masters.config.resources import PoolResources
from masters.data.shards import cut
from masters.data.storage import Storage
from masters.reporting.progress import Tracker
from masters.stages.shard_pool import Job, run_shards

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]
SHARDS = {"teacher": 8, "student": 2}


@dataclass(frozen=True)
class Task:
    """Takes a second for a shard, and writes down where and when, and which actors there were."""

    folder: str
    stage: str = "generate"

    def rows(self, run, shard):
        return [{"sample_id": str(shard.start)}]

    def requests(self, run, shard, rows, chat):
        return []

    def compute(self, shard, rows, ready):
        began = time.time()
        time.sleep(1)
        node = ray.get_runtime_context().get_node_labels()["pool"]
        found = {"node": node, "began": began, "ended": time.time(), "process": os.getpid(), "actors": actors()}
        return pa.Table.from_pylist([{**rows[0], **found}])


def actors() -> list[int]:
    """Pool actors on this machine; those of other tests' clusters among them."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """What the tasks of each pool wrote down."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1}
    cluster = Cluster(True, head_node_args={**node, "labels": {"pool": "teacher"}, "include_dashboard": False})
    run = Storage(str(tmp_path_factory.mktemp("pools")))
    try:
        cluster.add_node(**node, labels={"pool": "student"})
        ray.init(address=cluster.address, log_to_driver=False)
        jobs = [
            Job(Task(pool), list(cut(pool, "0.00", "train", 0, count, 1)), pool, PoolResources(labels={"pool": pool}))
            for pool, count in SHARDS.items()
        ]
        run_shards(jobs, run, Tracker(sum(SHARDS.values()), "questions", 0, lambda _: None))
    finally:
        ray.shutdown()
        cluster.shutdown()
    return {pool: [run.read_table(name).to_pylist()[0] for name in run.names(pool)] for pool in SHARDS}


def test_each_pool_has_its_own_node_and_nothing_is_lost(tables):
    assert {pool: len(rows) for pool, rows in tables.items()} == SHARDS
    assert all({row["node"] for row in rows} == {pool} for pool, rows in tables.items())


def test_pools_work_at_the_same_time(tables):
    spans = {pool: (min(r["began"] for r in rows), max(r["ended"] for r in rows)) for pool, rows in tables.items()}
    assert max(began for began, _ in spans.values()) < min(ended for _, ended in spans.values())


def test_a_pool_that_is_done_gives_its_actors_back_while_another_works(tables):
    (student,) = {row["process"] for row in tables["student"]}
    last = max(tables["teacher"], key=lambda row: row["began"])
    assert any(student in row["actors"] for row in tables["teacher"])
    assert student not in last["actors"]
