"""The training loop that Ray Train runs on each worker: read a step's groups, take them through the models, update, log."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from masters.config.run import RunConfig
from masters.data.storage import Storage
from masters.engines.sharding import init_process_group
from masters.models.folder import resolve
from masters.training.balance import deal
from masters.training.batches import Collator, MicroBatch
from masters.training.checkpoints import Checkpoints, Logbook
from masters.training.clock import Clock
from masters.training.curriculum import Step, learning_rate, steps
from masters.training.groups import GroupReader, shards_of
from masters.training.metrics import Found, StepMetrics
from masters.training.space import scratch_folder
from masters.training.students import ends_level, export_last, export_level
from masters.training.trackers import Trackers
from masters.training.trio import Cast, Trio


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
    meet(task.config)
    device = init_process_group(context.get_local_rank(), gpu=resources.gpus > 0)
    torch.set_num_threads(max(1, int(resources.cpus)))
    cast = Cast(task.config, task.run, task.thresholds, context.get_node_rank())
    logbook = Logbook(task.run, dist.get_rank())
    checkpoints = Checkpoints(task.config.train, task.run, cast.trio.student, logbook)
    first = checkpoints.restore()
    if first and dist.get_rank() == 0:
        task.progress(first, "", {})
    _run_steps(task, cast, logbook, checkpoints, first, device)
    export_last(cast, task.run, scratch_folder(task.config.train))


def meet(config: RunConfig) -> None:
    """Fetch what is not on this node of all that the gang will read, and wait for those who still fetch, without a limit.

    Ranks that waited in a collective of torch would end the gang when its timeout is over. Later teachers are fetched now, too.
    """
    from ray.train.collective import barrier

    for model in (config.student, *(() if config.train.objective == "sft" else config.curriculum)):
        resolve(model.path, config.hub_token_env, mirror=config.hub_mirror)
    barrier()


def _run_steps(
    task: TrainTask, cast: Cast, logbook: Logbook, checkpoints: Checkpoints, first: int, device: torch.device
) -> None:
    """All steps from `first` on; the next step's batches are made while this one computes."""
    planned, train = steps(task.config, task.total), task.config.train
    bounds = train.groups_per_micro_batch, train.tokens_per_micro_batch
    reader = GroupReader(task.run, shards_of(task.run.names("responses", ".parquet")), cast.vocabulary)
    collate = Collator(task.run, cast.chat, cast.trio.student.vlm)

    def batches(step: Step) -> list[MicroBatch]:
        groups = reader.groups(step)
        passes = deal([group.tokens for group in groups], dist.get_world_size(), *bounds)
        return [collate([groups[place] for place in dealt[dist.get_rank()]]) for dealt in passes]

    trackers = Trackers(task.config, task.run, first) if dist.get_rank() == 0 else None
    clock = cast.trio.clock = Clock(device)
    with ThreadPoolExecutor(1) as background:
        coming = background.submit(batches, planned[first]) if first < len(planned) else None
        for step in planned[first:]:
            assert coming is not None
            with clock.part("data"):
                now, done = coming.result(), step.number + 1
            coming = background.submit(batches, planned[done]) if done < len(planned) else None
            with clock.part("teacher"):
                cast.take_level(step)
            rate = learning_rate(train, step.number, len(planned))
            row, responses = _take_step(cast.trio, step, now, rate, device)
            logbook.add(row, responses)
            if trackers is not None:
                task.progress(done, logbook.in_words(step.level), row)
                trackers.tell(row)
            with clock.part("saving"):
                if train.students_by_level and ends_level(planned, step):
                    export_level(cast, task.run, step.level, scratch_folder(train))
                checkpoints.after_step(done, last=done == len(planned))
    if trackers is not None:
        trackers.close()


def _take_step(
    trio: Trio, step: Step, batches: Sequence[MicroBatch], rate: float, device: torch.device
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One optimiser step: its metrics over all ranks, and what each response of this rank earned.

    The loss is the mean over the step's own groups: a short step at the end of a level is as large as any other.
    """
    metrics, ranks = StepMetrics(), dist.get_world_size()
    size = step.stop - step.start
    for batch in batches:
        metrics.count(batch)
    with trio.clock.part("data"):
        batches = [batch.to(device) for batch in batches]
    norm = trio.learn(batches, size / ranks, rate, metrics, step.number)
    row = {"step": step.number, "level": step.level, "lr": rate, "groups": size, "gradient_norm": norm}
    if trio.teacher is not None:
        row |= {"teacher": step.level.rpartition("@r")[0], "mask_ratio": float(step.ratio)}
        row["sparsity"] = trio.teacher.sparsity
    metrics.cost(trio.clock.lap(), trio.clock.peak_memory_gib())
    return {**row, **metrics.reduce(_of_all_ranks)}, metrics.responses


def _of_all_ranks(found: Found) -> list[Found]:
    everyone = [found] * dist.get_world_size()
    dist.all_gather_object(everyone, found)
    return everyone
