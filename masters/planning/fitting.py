"""What does not fit into GPUs, and the field to change: the first change that helps is tried out before it is said."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from masters.config.problems import Problem
from masters.config.score import ModelJudge
from masters.config.train import TrainConfig
from masters.families.sizes import ModelSize
from masters.planning.memory import GIB, MARGIN, EngineMemory, TrainMemory, engine_memory, train_memory
from masters.planning.places import Place
from masters.planning.products import accelerator_of
from masters.planning.workload import Cost, Workload

_SIZES = (1, 2, 4, 8, 16)


def gang_memory(
    load: Workload, per_node: int, train: TrainConfig | None = None, workers: int | None = None
) -> TrainMemory:
    """Of a worker; with another section or number of workers, what it would be."""
    train, workers = train or load.config.train, workers or load.config.resources.train.workers
    teachers = () if train.objective == "sft" else load.sizes.teachers
    return train_memory(train, load.sizes.student, teachers, load.shape, workers, min(per_node, workers))


def gang_problems(load: Workload, place: Place, memory: TrainMemory) -> Iterator[Problem]:
    """Of the gang: GPUs, and CPU memory of its pods."""
    gang = load.config.resources.train
    if place.gpus and MARGIN * memory.peak > _memory_gib(load, place) * GIB:
        largest = sorted(memory.parts.items(), key=lambda part: -part[1])[:3]
        takes = f"{'at least ' if load.sure else ''}{MARGIN * memory.peak / GIB:.0f} GiB"
        rule = f"a worker takes {takes} of a {place.kind.name}'s {place.kind.memory_gib:.0f}: " + ", ".join(
            f"{name} {size / GIB:.0f}" for name, size in largest
        )
        yield Problem("resources.train.workers", gang.workers, rule, _remedy(load, place))
    group = next((group for group in load.groups or () if group.name == place.group), None)
    host = sum(memory.host.values()) * min(place.per_pod, gang.workers)
    alone = len(place.fitting) == 1 or not load.sure
    if group is not None and place.gpus and alone and host > group.memory_gib * GIB:
        kept = ", ".join(f"{name} {size / GIB:.0f}" for name, size in memory.host.items())
        rule = f"its workers keep {host / GIB:.0f} GiB in CPU memory (each: {kept})"
        field = f"workerGroups.{group.name}.memoryGi"
        yield Problem(field, f"{group.memory_gib:g} beside /dev/shm", rule, f"Use {host / GIB * 1.2:.0f}.")


def _memory_gib(load: Workload, place: Place) -> float:
    """Of a GPU there. Where only what is sure counts, of the largest that Ray may take; one that nothing names has no end."""
    if not load.sure:
        return place.kind.memory_gib
    kinds = [accelerator_of(group) for group in load.groups or () if group.name in place.fitting]
    return max((kind.memory_gib if kind else math.inf for kind in kinds), default=math.inf)


def _remedy(load: Workload, place: Place) -> str:
    """The first change after which a worker fits, the cheapest first."""
    train, workers = load.config.train, load.config.resources.train.workers
    longest = int(load.shape.tokens) + 1
    changes: tuple[tuple[str, dict[str, Any], int], ...] = (
        ("train.gradient_checkpointing: true", {"gradient_checkpointing": True}, 1),
        (f"train.tokens_per_micro_batch: {longest}", {"tokens_per_micro_batch": longest}, 1),
        ("train.teacher_sharding: world", {"teacher_sharding": "world"}, 1),
        *((f"resources.train.workers: {workers * more}", {}, more) for more in (2, 4, 8)),
        ("train.offload_optimizer: true", {"offload_optimizer": True}, 1),
        ("train.offload_teacher: true", {"offload_teacher": True}, 1),
        (
            "train.offload_optimizer and train.offload_teacher: true",
            {"offload_optimizer": True, "offload_teacher": True},
            1,
        ),
    )
    found = []
    for said, change, more in changes:
        other = gang_memory(load, place.per_pod, train.model_copy(update=change), workers * more)
        if (
            other.peak < 0.999 * gang_memory(load, place.per_pod).peak
            and MARGIN * other.peak <= place.kind.memory_gib * GIB
        ):
            found.append(said)
    return f"Set {' or '.join(found[:2])}." if found else "Take GPUs with more memory, and more of them."


def engine_problems(load: Workload, costs: Sequence[Cost]) -> Iterator[Problem]:
    """Engines that have no room for one sequence of engine.max_model_len beside their weights."""
    config, sizes = load.config, load.sizes
    engine, longest = config.resources.engine, config.engine.max_model_len
    quantised = {"student": config.student.quantization}
    if isinstance(config.score.judge, ModelJudge):
        quantised["judge"] = config.score.judge.quantization
    models = {"student": ("student.gpus_per_engine", sizes.student)}
    for index, (entry, size) in enumerate(zip(config.curriculum, sizes.teachers, strict=True)):
        models[entry.alias] = (f"curriculum[{index}].gpus_per_engine", size)
    if sizes.judge is not None:
        models["judge"] = ("score.judge.gpus_per_engine", sizes.judge)
    told = set()
    for cost in costs:
        if cost.pool not in models or not cost.place.gpus or (cost.pool, cost.place.kind) in told:
            continue
        told.add((cost.pool, cost.place.kind))
        field, size = models[cost.pool]
        kind, gpus, room = cost.place.kind, cost.place.gpus, _memory_gib(load, cost.place)
        weight = 1 if quantised.get(cost.pool) else 2

        def memory(count: float, size: ModelSize = size, room: float = room, weight: int = weight) -> EngineMemory:
            share = engine.gpu_memory_utilization * min(1, count)
            return engine_memory(size, max(1, int(count)), room, share, longest, weight)

        if memory(gpus).fits:
            continue
        enough = [n for n in _SIZES if n > gpus and not size.decoder.heads % n and memory(n).fits]
        part = f"{gpus:g} of " if gpus < 1 else ""
        rule = (
            f"stage {cost.stage}: weights of {memory(gpus).weights / GIB:.0f} GiB a GPU leave no room for "
            f"engine.max_model_len {longest} on {part}a {kind.name} of {kind.memory_gib:.0f} GiB"
        )
        yield Problem(field, f"{gpus:g}", rule, f"Use {enough[0]}." if enough else "Take GPUs with more memory.")
