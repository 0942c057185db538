"""What training costs: steps, their arithmetic, what is gathered over networks, and checkpoints."""

import math
from dataclasses import replace

from masters.planning import throughputs as pace
from masters.planning.flops import group_flops
from masters.planning.memory import GIB, checkpoint_bytes
from masters.planning.places import find_place
from masters.planning.workload import Cost, Workload


def train_flops(load: Workload, teacher: int | None) -> float:
    """Of one group under one teacher of the curriculum; None for the control `sft`."""
    train, sizes, shape = load.config.train, load.sizes, load.shape
    head = sizes.student.decoder.vocabulary * shape.trained * 4
    models = 1 + (teacher is not None) + (teacher is not None and train.kl_weight > 0)
    return group_flops(
        sizes.student,
        None if teacher is None else sizes.teachers[teacher],
        shape,
        reference=teacher is not None and train.kl_weight > 0,
        checkpointing=train.gradient_checkpointing,
        twice=train.policy_weight > 0 and head * models > train.objective_gib * GIB,
    ).total


def train_steps(load: Workload) -> int:
    """Optimiser steps: a step never crosses a level."""
    train, config = load.lengths.train, load.config
    levels = [len(entry.ratio_keys) for entry in config.curriculum]
    return sum(count * math.ceil(train / count / config.train.groups_per_step) for count in levels)


def gathered_bytes(load: Workload, workers: int, passes: int) -> dict[str, float]:
    """Bytes that each worker receives in a step, by what they are: weights, and sums of gradients in fp32."""
    train, sizes = load.config.train, load.sizes
    weight, share = (2 if train.precision == "bf16" else 4), (workers - 1) / workers
    alone = train.objective == "sft"
    teacher = 0 if alone else weight * max(size.parameters for size in sizes.teachers) * share
    student = weight * sizes.student.parameters * share
    gradients = 4 * sizes.student.parameters * share
    return {
        "teacher": teacher,
        "reference": 0.0 if alone or not train.kl_weight else student,
        "student": passes * 2 * student,
        "gradients": passes * gradients,
    }


def train_cost(load: Workload) -> Cost:
    """Of the gang: steps that all workers do together, and checkpoints."""
    config, train, gang = load.config, load.config.train, load.config.resources.train
    place = replace(find_place(gang, gang.gpus, gang.workers, load.groups), actors=gang.workers)
    workers, gpu = gang.workers, gang.gpus > 0
    steps, shape = train_steps(load), load.shape
    a_step = load.lengths.train * len(config.curriculum) / max(1, steps)
    passes = math.ceil(a_step / workers / train.groups_per_micro_batch)
    if train.objective == "sft":
        flops = train_flops(load, None) * load.lengths.train * len(config.curriculum)
    else:
        flops = load.lengths.train * sum(train_flops(load, index) for index in range(len(config.curriculum)))
    balance = pace.balance(a_step / workers) if workers > 1 else 1.0
    rate = place.kind.tflops * 1e12 * place.kind.train_share
    computing = flops / max(1, steps) / (workers * rate * balance)
    moved = gathered_bytes(load, workers, passes)
    across = {} if train.teacher_sharding == "world" else {"teacher": 0.0, "reference": 0.0}
    inside = sum(moved.values()) / pace.NODE_LINK
    between = 0.0
    if place.nodes > 1:  # of a node's workers each fetches its part of what all of them need
        between = sum({**moved, **across}.values()) * (place.nodes - 1) / place.nodes / pace.NODE_NETWORK
    step = (pace.GPU_STEP if gpu else pace.CPU_STEP) + passes * (pace.GPU_PASS if gpu else pace.CPU_PASS)
    step += max(computing, inside, between) if gpu else computing
    size = checkpoint_bytes(load.sizes.student, train)
    saves = _saves(load, steps, steps * step)
    saving = saves * (pace.SAVE_SECONDS + size / place.nodes / pace.DISK)
    start = pace.GANG_START[gpu] + sum(2 * s.parameters for s in (load.sizes.student, *load.sizes.teachers)) / pace.DISK
    details = {
        "steps": steps,
        "passes": passes,
        "balance": balance,
        "step_seconds": step,
        "computing": computing,
        "network": between,
        "saves": saves,
        "saving": saving,
        **{f"gather_{name}": value for name, value in moved.items()},
    }
    tokens = shape.tokens * load.lengths.train * len(config.curriculum)
    return Cost(
        "train",
        "",
        place,
        load.lengths.train * len(config.curriculum),
        tokens,
        flops,
        start,
        steps * step + saving,
        details,
    )


def _saves(load: Workload, steps: int, seconds: float) -> int:
    """Checkpoints by steps or by minutes, and students by level."""
    train = load.config.train
    by_minutes = seconds / (60 * train.checkpoint_minutes)
    students = load.levels if train.students_by_level else 1
    return int(max(steps / train.checkpoint_every, by_minutes)) + students
