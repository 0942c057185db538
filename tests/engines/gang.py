"""What Ray Train's workers run in test_gang.py: real checkpoints and logs around a student that only counts."""

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist

from masters.config.train import TrainConfig
from masters.data.storage import Storage
from masters.training import checkpoints
from masters.training.checkpoints import Checkpoints, Logbook

BYTES = 1 << 20


class Counting:
    """Stands for Zero3Student: each rank writes a part, and refuses a checkpoint that lacks one."""

    def save(self, folder: Path, state: Mapping[str, Any]) -> None:
        folder.mkdir()
        (folder / f"part-{dist.get_rank()}").write_bytes(bytes(BYTES))
        if dist.get_rank() == 0:
            (folder / "state.json").write_text(json.dumps(state))

    def load(self, folder: Path, scratch: Path) -> dict[str, Any]:
        assert {f.stat().st_size for f in folder.glob("part-*")} == {BYTES}
        assert len(list(folder.glob("part-*"))) == dist.get_world_size()
        return json.loads((folder / "state.json").read_text())


def work(settings: dict[str, Any]) -> None:
    """Steps of a length; `events` gets a line for what rank 0 did and when, `cut` kills rank 1 in its n-th upload."""
    checkpoints.NOTICE_SECONDS = 0.3
    run, events, rank = Storage(settings["run"]), Path(settings["events"]), dist.get_rank()
    Path(f"{events}.node-{rank}").write_text(ray.get_runtime_context().get_node_id())
    watch_uploads(events, rank, settings)
    logbook = Logbook(run, rank)
    saving = Checkpoints(TrainConfig(**settings["train"]), run, Counting(), logbook)
    first = saving.restore()
    tell(events, rank, "begins", first)
    for step in range(first, settings["steps"]):
        time.sleep(settings["seconds"])
        dist.barrier()
        response = {"step": step, "sample_id": f"s/{step}", "author": "student", "index": rank}
        logbook.add({"step": step, "divergence": step / 7, "time_unix": time.time()}, [response])
        tell(events, rank, "step", step + 1)
        saving.after_step(step + 1, last=step + 1 == settings["steps"])


def watch_uploads(events: Path, rank: int, settings: dict[str, Any]) -> None:
    """Have uploads take a second and be written down; one of them ends with the worker, in the middle."""
    from ray.train.v2._internal.execution import storage

    copy, done = storage._pyarrow_fs_copy_files, []

    def slow(source: str, destination: str, **options: Any) -> None:
        tell(events, rank, "upload begins", len(done))
        done.append(source)
        time.sleep(settings["upload_seconds"])
        if rank == 1 and settings["cut"] == len(done) and not Path(f"{events}.cut").exists():
            Path(f"{events}.cut").touch()
            Path(destination, "part-1").write_bytes(bytes(BYTES // 2))
            os.kill(os.getpid(), signal.SIGKILL)
        copy(source, destination, **options)
        tell(events, rank, "upload ends", len(done) - 1)

    storage._pyarrow_fs_copy_files = slow


def tell(events: Path, rank: int, what: str, number: int) -> None:
    if rank == 0:
        with events.open("a") as file:
            file.write(json.dumps({"what": what, "number": number}) + "\n")
