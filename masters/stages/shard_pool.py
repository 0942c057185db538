"""A pool of actors that turn shards into tables: what generate, score and evaluate have in common.

Ray Data hands shards out in order and carries receipts back, not tables. An actor runs a shard alone on an idle engine after
both cache resets, and writes its table once, whole. What is already written is not done again. Models that need the same
number of GPUs share a pool: importing vLLM takes longer than loading a small model, so an actor replaces its engine instead.
"""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from masters.config.engine import EngineConfig
from masters.config.models import ModelConfig
from masters.config.resources import EngineResources, PoolResources
from masters.config.run import RunConfig
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.data.tables import REJECTS
from masters.data.trials import Trial
from masters.models.folder import resolve
from masters.reporting.progress import Tracker
from masters.stages import metrics
from masters.stages.cluster import connect, remote_options


@dataclass(frozen=True)
class EngineSpec:
    """How an actor builds its engine.

    `thresholds` is a file in the run directory, or None. `stored` is a model folder in the run directory that takes the
    place of the model's own, or None.
    """

    model: ModelConfig
    config: EngineConfig
    resources: EngineResources
    token_env: str
    images_per_prompt: int
    thresholds: str | None = None
    stored: str | None = None

    @classmethod
    def of(
        cls,
        model: ModelConfig,
        config: RunConfig,
        images_per_prompt: int,
        *,
        thresholds: str | None = None,
        stored: str | None = None,
    ) -> "EngineSpec":
        """From a recipe."""
        resources, token = config.resources.engine, config.hub_token_env
        return cls(model, config.engine, resources, token, images_per_prompt, thresholds, stored)

    @contextmanager
    def folder(self, run: Storage) -> Iterator[Path]:
        """The model's folder on this machine; one that was fetched from the run directory is deleted after the block."""
        if self.stored is None:
            yield resolve(self.model.path, self.token_env)
        elif run.local_path is not None:
            yield Path(run.local_path) / self.stored
        else:
            with tempfile.TemporaryDirectory(prefix="masters-model-") as local:
                run.download(self.stored, local)
                yield Path(local)


class ShardTask(Protocol):
    """What is done with the rows of a shard. Must be picklable."""

    @property
    def stage(self) -> str:
        """Name of the stage, for rejects and failures."""
        ...

    @property
    def folder(self) -> str:
        """Where the tables lie: <folder>/<author>/<start>-<stop>.parquet."""
        ...

    def rows(self, run: Storage, shard: Shard) -> list[dict[str, Any]]:
        """The shard's rows, each with a `sample_id`."""
        ...

    def compute(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], engine: Any, chat: Any) -> pa.Table:
        """The table of some of the shard's rows. `engine` and `chat` are None for tasks without a model."""
        ...


@dataclass(frozen=True)
class Job:
    """Shards with the same task and the same model; `spec` is None for tasks without a model."""

    task: ShardTask
    shards: Sequence[Shard]
    spec: EngineSpec | None = None

    @property
    def gpus(self) -> int:
        """GPUs of an engine; -1 without one."""
        return self.spec.model.gpus_per_engine if self.spec else -1


def run_shards(jobs: Sequence[Job], pool: PoolResources, run: Storage, tracker: Tracker) -> list[dict[str, Any]]:
    """Compute the shards that are not there yet, jobs in order; receipts of those that were computed now.

    The tracker counts the rows of every shard, done ones included.
    """
    receipts = []
    for gpus, group in groupby(jobs, lambda job: job.gpus):
        together = list(group)
        rows = []
        for number, job in enumerate(together):
            existing = set(run.names(job.task.folder, ".parquet"))
            for shard in job.shards:
                if shard.file(job.task.folder) in existing:
                    tracker.done += shard.stop - shard.start
                else:
                    rows.append({"job": number, **asdict(shard)})
        tracker.advance(0)
        if rows:
            receipts.extend(_run_pool(together, rows, gpus, pool, run, tracker))
    return receipts


def _run_pool(
    jobs: Sequence[Job],
    rows: list[dict[str, Any]],
    gpus: int,
    pool: PoolResources,
    run: Storage,
    tracker: Tracker,
) -> list[dict[str, Any]]:
    import ray.data

    connect()
    options = remote_options(pool, max(0, gpus))
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
            min_size=min(pool.min_actors, len(rows)),
            max_size=min(pool.max_actors, len(rows)),
            max_tasks_in_flight_per_actor=2,
        ),
        **options,
    )
    receipts, rejected = [], 0
    with metrics.showing(jobs[0].task.stage, tracker):
        for receipt in dataset.iter_rows():
            receipts.append(receipt)
            rejected += receipt["rejected"]
            tracker.advance(receipt["rows"], receipt["author"] + (f"  {rejected} rejected" if rejected else ""))
    return receipts


class ShardWorker:
    """Ray Data actor: one engine at a time, one shard at a time."""

    def __init__(self, tasks: Sequence[ShardTask], specs: Sequence[EngineSpec | None], run: Storage):
        self._tasks, self._specs, self._run = tasks, specs, run
        self._task = tasks[0]
        self._spec: EngineSpec | None = None
        self._engine: Any = None
        self._chat: Any = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Receipts of the shards in a batch."""
        receipts = []
        for row in batch.to_pylist():
            number = row.pop("job")
            shard = Shard(**row)
            self._take_job(number, shard.ratio)
            receipts.append(self._finish(shard))
        return pa.Table.from_pylist(receipts)

    def _take_job(self, number: int, ratio: str) -> None:
        """The engine of a job is started with its first shard: a job whose shards are all done loads no model."""
        self._task = self._tasks[number]
        if self._specs[number] != self._spec:
            if self._engine is not None:
                metrics.count_switch(self._task.stage)
                self._engine.close()
            self._spec = self._specs[number]
            self._engine, self._chat = _start_engine(self._spec, self._run, ratio)

    def _finish(self, shard: Shard) -> dict[str, Any]:
        """Compute a shard and commit it; on an exception record it and end the process, which Ray replaces."""
        began = time.monotonic()
        rows = self._task.rows(self._run, shard)
        record = f"failures/{self._task.stage}/{shard.author}-{shard.start:08d}.json"
        trial = Trial.from_json(self._run.read_json(record)) if self._run.exists(record) else Trial()
        if trial.running:
            metrics.count_lost_attempt(self._task.stage)
        while True:
            trial = trial.start(range(len(rows)))
            self._run.write_json(record, trial.to_json())
            try:
                table = self._attempt(shard, [rows[number] for number in trial.running])
            except OSError:  # storage or the machine: no row is to blame
                self._run.write_json(record, replace(trial, running=()).to_json())
                raise
            except Exception as error:  # noqa: BLE001  whatever the engine raises is recorded before the process ends
                traceback.print_exc()
                self._blame(trial, record, f"{type(error).__name__}: {error}")
                sys.stderr.flush()
                os._exit(1)  # an engine that raised is in an unknown state; Ray starts another and hands it the shard
            probed, trial = trial.is_probe, trial.passed()
            if not probed:
                break
        self._commit(shard, table, [(rows[number]["sample_id"], why) for number, why in trial.excluded.items()])
        self._run.delete(record)
        metrics.count_shard(self._task.stage, shard.author, table, len(trial.excluded))
        return {
            "author": shard.author,
            "rows": shard.stop - shard.start,
            "rejected": len(trial.excluded),
            "seconds": time.monotonic() - began,
        }

    def _blame(self, trial: Trial, record: str, reason: str) -> None:
        """Record that the engine raised. Raises ValueError where no row is to blame; then nothing is held against any."""
        try:
            self._run.write_json(record, trial.failed(reason).to_json())
        except ValueError:
            self._run.delete(record)
            raise

    def _attempt(self, shard: Shard, rows: Sequence[dict[str, Any]]) -> pa.Table:
        if self._engine is not None:
            if self._spec is not None and self._spec.thresholds and self._engine.ratio != shard.ratio:
                metrics.count_switch(self._task.stage)
                self._engine.switch(shard.ratio)
            self._engine.reset_caches()
        return self._task.compute(self._run, shard, rows, self._engine, self._chat)

    def _commit(self, shard: Shard, table: pa.Table, rejected: Iterable[tuple[str, str]]) -> None:
        """Rejects first: the shard counts as done when its table is there."""
        rows = [
            {
                "source": shard.author,
                "row": sample_id,
                "reason": "the engine fails on this row",
                "detail": why,
            }
            for sample_id, why in rejected
        ]
        if rows:
            name = f"rejects/{self._task.stage}/{shard.author}-{shard.start:08d}.parquet"
            self._run.write_table(name, pa.Table.from_pylist(rows, schema=REJECTS))
        self._run.write_table(shard.file(self._task.folder), table)


def _start_engine(spec: EngineSpec | None, run: Storage, ratio: str) -> tuple[Any, Any]:
    """The engine, masked at a ratio where it has thresholds, and the chat processor of a model, in this process."""
    if spec is None:
        return None, None
    from masters.engines.masked_vllm import MaskedEngine
    from masters.models.chat import ChatProcessor
    from masters.models.folder import family_of

    thresholds = None
    if spec.thresholds is not None:
        with tempfile.NamedTemporaryFile("wb", suffix=".json", delete=False) as local:
            local.write(run.read(spec.thresholds))
        thresholds = Path(local.name)
    with spec.folder(run) as folder:
        engine = MaskedEngine(
            folder,
            spec.config,
            spec.resources,
            gpus=spec.model.gpus_per_engine,
            images_per_prompt=spec.images_per_prompt,
            thresholds=thresholds,
            ratio=ratio,
        )
        return engine, ChatProcessor(folder, family_of(folder))
