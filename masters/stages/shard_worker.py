"""The actor of a pool: it turns shards into tables, each written once and whole.

Two calls of an actor run at once. While the engine answers one shard, images of the next are read, decoded and preprocessed;
by default a shard has the engine to itself, idle and with its caches reset, so that its bytes depend on nothing else.
"""

import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from masters.config.engine import EngineConfig
from masters.config.images import OWN_LIMITS, ImagesConfig
from masters.config.models import ModelConfig
from masters.config.resources import EngineResources
from masters.config.run import RunConfig
from masters.config.score import ModelJudge
from masters.data.shards import Shard
from masters.data.storage import Storage
from masters.data.tables import REJECTS, counted
from masters.data.trials import Trial
from masters.models.folder import resolve
from masters.stages import metrics
from masters.stages.meter import Meter
from masters.stages.turns import Ticket, Turns


@dataclass(frozen=True)
class EngineSpec:
    """How an actor builds its engine.

    `thresholds` is a file in the run directory, or None. `stored` is a model folder in the run directory that takes the
    place of the model's own, or None. `images` limits images; a judge of another family is asked texts only.
    """

    model: ModelConfig
    config: EngineConfig
    resources: EngineResources
    token_env: str
    images_per_prompt: int
    thresholds: str | None = None
    stored: str | None = None
    mirror: str | None = None
    images: ImagesConfig = OWN_LIMITS

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
        images = OWN_LIMITS if isinstance(model, ModelJudge) else config.images
        mirror = config.hub_mirror
        return cls(model, config.engine, resources, token, images_per_prompt, thresholds, stored, mirror, images)

    @contextmanager
    def folder(self, run: Storage) -> Iterator[Path]:
        """The model's folder on this machine; one that was fetched from the run directory is deleted after the block."""
        if self.stored is None:
            yield resolve(self.model.path, self.token_env, mirror=self.mirror)
        elif run.local_path is not None:
            yield Path(run.local_path) / self.stored
        else:
            with tempfile.TemporaryDirectory(prefix="masters-model-") as local:
                run.download(self.stored, local)
                yield Path(local)


class Ready(NamedTuple):
    """What a task works with: an engine, its chat processor, and the requests that it has made ready; without a model nothing."""

    engine: Any = None
    chat: Any = None
    requests: Sequence[Any] = ()


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

    def requests(self, run: Storage, shard: Shard, rows: Sequence[dict[str, Any]], chat: Any) -> list[Any]:
        """What the engine will be asked first about these rows, so that it can be made ready; may be nothing."""
        ...

    def compute(self, shard: Shard, rows: Sequence[dict[str, Any]], ready: Ready) -> pa.Table:
        """The table of some of the shard's rows, about which the requests are."""
        ...


class Loaded(NamedTuple):
    """A model in this process; without one the spec is None, and so is the rest."""

    spec: EngineSpec | None
    engine: Any
    chat: Any


class ShardWorker:
    """Ray Data actor: one engine at a time, and one shard at a time on it, or several of a level where shards overlap."""

    def __init__(self, tasks: Sequence[ShardTask], specs: Sequence[EngineSpec | None], run: Storage):
        self._tasks, self._specs, self._run = tasks, specs, run
        self._loaded: Loaded | None = None
        self._turns = Turns()
        self._preparing = threading.Lock()  # tokenizers and processors take one caller
        self._loading = threading.Lock()  # shards that overlap come to an engine together
        self._meter = Meter()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Receipts of the shards in a batch."""
        receipts = []
        for row in batch.to_pylist():
            number, place = row.pop("job"), row.pop("place")
            ticket = self._turns.come(place)
            try:
                receipts.append(self._finish(number, Shard(**row), ticket))
            finally:
                self._turns.leave(ticket)
        return pa.Table.from_pylist(receipts)

    def _finish(self, number: int, shard: Shard, ticket: Ticket) -> dict[str, Any]:
        """Compute a shard and commit it; on an exception record it and end the process, which Ray replaces."""
        task, spec = self._tasks[number], self._specs[number]
        rows = task.rows(self._run, shard)
        ready = self._look_ahead(task, spec, shard, rows)
        record = f"failures/{task.stage}/{shard.author}-{shard.start:08d}.json"
        begun = self._run.exists(record)
        overlaps = spec is not None and spec.resources.overlap and not begun
        with self._turns.taken(ticket, (number, shard.ratio) if overlaps else None):
            trial = Trial.from_json(self._run.read_json(record)) if begun else Trial()
            with self._loading:
                loaded = self._take_engine(task, spec, shard.ratio)
            trial, table = self._tried(trial, record, task, shard, rows, loaded, ready)
            use = self._meter.leave(loaded.engine)
        rejects = [(rows[index]["sample_id"], why) for index, why in trial.excluded.items()]
        self._commit(task, shard, table, rejects)
        self._run.delete(record)
        metrics.count_shard(task.stage, shard.author, table, len(rejects))
        metrics.count_use(task.stage, use)
        return {"author": shard.author, "rows": shard.stop - shard.start, "rejected": len(rejects), **use}

    def _look_ahead(
        self, task: ShardTask, spec: EngineSpec | None, shard: Shard, rows: Sequence[dict[str, Any]]
    ) -> Ready | None:
        """Requests that are ready before the shard has its turn, if its engine is there already."""
        loaded = self._loaded
        if loaded is None or loaded.spec is None or loaded.spec != spec:
            return None
        try:
            return self._prepared(task, shard, rows, loaded)
        except Exception:  # noqa: BLE001  raised again in the shard's turn, where the row that is to blame is found
            return None

    def _take_engine(self, task: ShardTask, spec: EngineSpec | None, ratio: str) -> Loaded:
        """The engine of a job is started with its first shard: a job whose shards are all done loads no model."""
        if self._loaded is None or self._loaded.spec != spec:
            if self._loaded is not None and self._loaded.engine is not None:
                metrics.count_switch(task.stage)
                self._meter.rest()
                self._loaded.engine.close()
            self._loaded = start_engine(spec, self._run, ratio)
        loaded = self._loaded
        if spec is not None and spec.thresholds and loaded.engine.ratio != ratio:
            metrics.count_switch(task.stage)
            with self._meter.switching():
                loaded.engine.switch(ratio)
        return loaded

    def _tried(
        self,
        trial: Trial,
        record: str,
        task: ShardTask,
        shard: Shard,
        rows: Sequence[dict[str, Any]],
        loaded: Loaded,
        ready: Ready | None,
    ) -> tuple[Trial, pa.Table]:
        """The table of all rows that no trial has excluded."""
        if trial.running:
            metrics.count_lost_attempt(task.stage)
        while True:
            trial = trial.start(range(len(rows)))
            self._run.write_json(record, trial.to_json())
            try:
                fits = ready is not None and ready.engine is loaded.engine and len(trial.running) == len(rows)
                asked = [rows[index] for index in trial.running]
                table = self._attempt(task, shard, asked, loaded, ready if fits else None)
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
                return trial, table

    def _blame(self, trial: Trial, record: str, reason: str) -> None:
        """Record that the engine raised. Raises ValueError where no row is to blame; then nothing is held against any."""
        try:
            self._run.write_json(record, trial.failed(reason).to_json())
        except ValueError:
            self._run.delete(record)
            raise

    def _prepared(self, task: ShardTask, shard: Shard, rows: Sequence[dict[str, Any]], loaded: Loaded) -> Ready:
        with self._preparing:
            requests = loaded.engine.prepare(task.requests(self._run, shard, rows, loaded.chat))
        return Ready(loaded.engine, loaded.chat, requests)

    def _attempt(
        self, task: ShardTask, shard: Shard, rows: Sequence[dict[str, Any]], loaded: Loaded, ready: Ready | None
    ) -> pa.Table:
        if loaded.spec is None:
            return task.compute(shard, rows, Ready())
        ready = ready or self._prepared(task, shard, rows, loaded)
        self._meter.begin()
        if not loaded.spec.resources.overlap:
            loaded.engine.reset_caches()
        return task.compute(shard, rows, ready)

    def _commit(self, task: ShardTask, shard: Shard, table: pa.Table, rejected: Iterable[tuple[str, str]]) -> None:
        """Rejects first: the shard counts as done when its table is there. What is there already stays: whoever was thought
        dead and is only slow changes nothing."""
        if self._run.exists(shard.file(task.folder)):
            return
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
            name = f"rejects/{task.stage}/{shard.author}-{shard.start:08d}.parquet"
            self._run.write_table(name, pa.Table.from_pylist(rows, schema=REJECTS))
        self._run.add_table(shard.file(task.folder), counted(table))


def start_engine(spec: EngineSpec | None, run: Storage, ratio: str) -> Loaded:
    """The engine, masked at a ratio where it has thresholds, and the chat processor of a model, in this process."""
    if spec is None:
        return Loaded(None, None, None)
    from masters.engines.masked_vllm import MaskedEngine
    from masters.models.text_chat import chat_of

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
            images=spec.images,
            thresholds=thresholds,
            ratio=ratio,
            quantization=spec.model.quantization,
        )
        return Loaded(spec, engine, chat_of(folder, spec.images))
