"""Pools of actors that turn shards into tables: what generate, score and evaluate have in common.

Each model has a pool of its own, with its own actors, GPUs and labels, and the pools of a stage run at the same time. In each,
Ray Data hands shards out in order and carries receipts back, not tables; when a pool's last shard is done, its actors are given
back. What is already written is not done again.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from masters.config.resources import PoolResources
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.reporting.progress import Screen, Tracker
from masters.stages import metrics
from masters.stages.cluster import connect, remote_options
from masters.stages.meter import pool_use, use_in_words
from masters.stages.shard_worker import EngineSpec, ShardTask, ShardWorker

Receipt = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """Shards with the same task and the same model.

    Attributes:
        pool: name of the pool that does it.
        resources: of that pool; jobs of one pool have the same.
        spec: None for tasks without a model.
    """

    task: ShardTask
    shards: Sequence[Shard]
    pool: str
    resources: PoolResources
    spec: EngineSpec | None = None

    @property
    def gpus(self) -> float:
        """GPUs of an engine; 0 without one."""
        return self.spec.model.gpus_per_engine if self.spec else 0


@dataclass
class _Pool:
    """Jobs that are done by the same actors, in order."""

    name: str
    jobs: list[Job]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def has_model(self) -> bool:
        """Whether its actors start engines."""
        return self.jobs[0].spec is not None

    def takes(self, job: Job) -> bool:
        """Whether an actor of this pool can do the job.

        On a CPU an actor replaces its engine: importing vLLM takes longer than loading a small model. On a GPU an engine that
        was closed keeps memory (scale.md A8), so an actor ends with its model, and another model has another pool.
        """
        first = self.jobs[0]
        same = (first.pool, first.gpus, first.spec is None) == (job.pool, job.gpus, job.spec is None)
        return same and (job.gpus == 0 or first.spec == job.spec)


def run_stage_shards(unit: str, jobs: Sequence[Job], run: Storage, screen: Screen) -> dict[str, dict[str, Any]]:
    """Compute the shards of a stage under its progress bar; leaves a line about each pool of engines. As `run_shards`."""
    stage = jobs[0].task.stage
    with screen.track(stage, sum(s.stop - s.start for job in jobs for s in job.shards), unit) as tracker:
        pools = run_shards(jobs, run, tracker)
    for name, use in pools.items():
        if use["tokens"]:
            screen.line(stage, f"{name}: {use_in_words(use)}")
    return pools


def run_shards(jobs: Sequence[Job], run: Storage, tracker: Tracker) -> dict[str, dict[str, Any]]:
    """Compute the shards that are not there yet, jobs of a pool in order; what each pool's engines did, by its name.

    The tracker counts the rows of every shard, done ones included.
    """
    pools: list[_Pool] = []
    for job in jobs:
        pool = next((pool for pool in pools if pool.takes(job)), None)
        if pool is None:
            pools.append(pool := _Pool(job.pool, []))
        pool.jobs.append(job)
        existing = set(run.names(job.task.folder, ".parquet"))
        for shard in job.shards:
            if shard.file(job.task.folder) in existing:
                tracker.done += shard.stop - shard.start
            else:
                pool.rows.append({"job": len(pool.jobs) - 1, "place": len(pool.rows), **asdict(shard)})
    tracker.advance(0)
    busy = [pool for pool in pools if pool.rows]
    if not busy:
        return {}
    connect()
    receipts: dict[str, list[Receipt]] = {pool.name: [] for pool in busy}
    rejected = 0
    with metrics.showing(jobs[0].task.stage, tracker):
        # Those without a model come last: Ray Data shares CPUs out equally, and theirs would be missing where engines start.
        for asked in (True, False):
            for name, receipt in _together([pool for pool in busy if pool.has_model == asked], run):
                receipts[name].append(receipt)
                rejected += receipt["rejected"]
                tracker.advance(receipt["rows"], receipt["author"] + (f"  {rejected} rejected" if rejected else ""))
    return {name: pool_use(of_pool) for name, of_pool in receipts.items()}


def _together(pools: Sequence[_Pool], run: Storage) -> Iterator[tuple[str, Receipt]]:
    """Receipts of all pools as they come, each with its pool's name; what one raises ends the stage."""
    arrived: queue.SimpleQueue[tuple[str, Receipt] | BaseException | None] = queue.SimpleQueue()

    def drain(pool: _Pool) -> None:
        try:
            for receipt in _receipts(pool, run):
                arrived.put((pool.name, receipt))
            arrived.put(None)
        except BaseException as error:  # noqa: BLE001  raised by the driver, below
            arrived.put(error)

    for pool in pools:
        threading.Thread(target=drain, args=(pool,), daemon=True).start()
    left = len(pools)
    while left:
        found = arrived.get()
        if isinstance(found, BaseException):
            raise found
        if found is None:
            left -= 1
        else:
            yield found


def _receipts(pool: _Pool, run: Storage) -> Iterator[Receipt]:
    import ray.data

    jobs, rows = pool.jobs, pool.rows
    resources, gpus = jobs[0].resources, jobs[0].gpus
    options: dict[str, Any] = remote_options(resources, gpus)
    specs = [job.spec for job in jobs if job.spec]
    if specs:
        from masters.engines.masked_vllm import engine_environment

        options["runtime_env"] = {"env_vars": engine_environment(gpus, specs[0].resources)}
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        ShardWorker,
        fn_constructor_args=([job.task for job in jobs], [job.spec for job in jobs], run),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=min(resources.min_actors, len(rows)),
            max_size=min(resources.max_actors, len(rows)),
            max_tasks_in_flight_per_actor=2,
            max_concurrent_calls_per_actor=2,
            enable_true_multi_threading=True,
        ),
        **options,
    )
    yield from dataset.iter_rows()
