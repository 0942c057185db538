"""The training loop that Ray Train runs on each worker: read a step's groups, take them through the models, update, log."""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from masters.config.run import RunConfig
from masters.data.storage import Storage
from masters.engines.zero3 import init_process_group
from masters.training.balance import deal
from masters.training.batches import Collator, MicroBatch
from masters.training.checkpoints import Logbook, restore, save
from masters.training.curriculum import Step, learning_rate, steps
from masters.training.groups import GroupReader, shards_of
from masters.training.metrics import StepMetrics
from masters.training.trio import Cast, Trio

STUDENT_FOLDER = "train/student"


@dataclass(frozen=True)
class TrainTask:
    """What every worker is given; can be pickled.

    Attributes:
        config: the recipe.
        run: the run directory.
        total: number of train samples.
        thresholds: name of each teacher's thresholds file in the run directory.
        progress: called on rank 0 after every step with the number of steps done, what is going on, and the step's metrics;
            without metrics where training begins, if not at step 0.
    """

    config: RunConfig
    run: Storage
    total: int
    thresholds: tuple[str, ...]
    progress: Callable[[int, str, dict[str, Any]], None]


def train_on_worker(task: TrainTask) -> None:
    """One worker's share. Continues from the last checkpoint of the run, if there is one, and exports the student."""
    import ray.train

    context, resources = ray.train.get_context(), task.config.resources.train
    device = init_process_group(context.get_local_rank(), gpu=resources.gpus > 0)
    torch.set_num_threads(max(1, int(resources.cpus)))
    cast = Cast(task.config, task.run, task.thresholds)
    logbook = Logbook(task.run, dist.get_rank())
    first = restore(cast.trio.student, logbook)
    if first and dist.get_rank() == 0:
        task.progress(first, "", {})
    _run_steps(task, cast, logbook, first, device)
    _export(cast, task.run)


def _run_steps(task: TrainTask, cast: Cast, logbook: Logbook, first: int, device: torch.device) -> None:
    """All steps from `first` on; the next step's batches are made while this one computes."""
    planned, train = steps(task.config, task.total), task.config.train
    bounds = train.groups_per_micro_batch, train.tokens_per_micro_batch
    reader = GroupReader(task.run, shards_of(task.run.names("responses", ".parquet")), cast.vocabulary)
    collate = Collator(task.run, cast.chat, cast.trio.student.vlm)

    def batches(step: Step) -> list[MicroBatch]:
        groups = reader.groups(step)
        passes = deal([group.tokens for group in groups], dist.get_world_size(), *bounds)
        return [collate([groups[place] for place in dealt[dist.get_rank()]]) for dealt in passes]

    with ThreadPoolExecutor(1) as background:
        coming = background.submit(batches, planned[first]) if first < len(planned) else None
        for step in planned[first:]:
            assert coming is not None
            now, done = coming.result(), step.number + 1
            coming = background.submit(batches, planned[done]) if done < len(planned) else None
            cast.take_level(step)
            rate = learning_rate(train, step.number, len(planned))
            row, responses = _take_step(cast.trio, step, now, rate, device)
            logbook.add(row, responses)
            if dist.get_rank() == 0:
                task.progress(done, logbook.in_words(step.level), row)
            if done == len(planned) or done % train.checkpoint_every == 0:
                save(cast.trio.student, logbook, done)


def _take_step(
    trio: Trio, step: Step, batches: Sequence[MicroBatch], rate: float, device: torch.device
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One optimiser step: its metrics over all ranks, and what each response of this rank earned.

    The loss is the mean over the step's own groups: a short step at the end of a level is as large as any other.
    """
    metrics, norm, ranks = StepMetrics(), None, dist.get_world_size()
    size = step.stop - step.start
    for number, batch in enumerate(batches, 1):
        metrics.drop(batch.dropped)
        loss = trio.loss(batch.to(device), size / ranks, metrics, step.number)
        trio.student.backward(loss, last=number == len(batches))
        norm = trio.student.step(rate)
    row = {"step": step.number, "level": step.level, "lr": rate, "groups": size, "gradient_norm": norm}
    return {**row, **metrics.reduce(_sum_over_ranks, ranks)}, metrics.responses


def _sum_over_ranks(sums: dict[str, float]) -> dict[str, float]:
    everyone: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, sums)
    total: Counter[str] = Counter()
    for part in everyone:
        total.update(part)
    return dict(sorted(total.items()))


def _export(cast: Cast, run: Storage) -> None:
    """Write the trained student, a Hugging Face folder."""
    with tempfile.TemporaryDirectory() as local:
        folder = Path(local) / "student"
        cast.trio.student.export(folder)
        if dist.get_rank() == 0:
            cast.chat.processor.save_pretrained(folder)
            run.upload(folder, STUDENT_FOLDER)
    dist.barrier()
