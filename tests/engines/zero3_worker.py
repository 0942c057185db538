"""Run by two processes (torch.distributed.run): real DeepSpeed ZeRO-3 on gloo; results go to a file for the test to read."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

from masters.algo.terms import Objective
from masters.config.load import load_recipe
from masters.data.storage import Storage
from masters.engines import sharding, zero3
from masters.engines.sharding import gathered, init_process_group, node_groups
from masters.engines.zero3 import Zero3Frozen, Zero3Student, Zero3Teacher
from masters.models.thresholds import ThresholdsFile
from masters.training import loop
from masters.training.batches import MicroBatch
from masters.training.curriculum import steps
from masters.training.metrics import StepMetrics
from masters.training.trio import Cast, Trio
from tests.engines.batches import make_steps, rank_batches

RATES = {"sgd": 0.1, "adamw": 1e-3}


def train(
    student: Path,
    teacher: Path,
    thresholds: Path,
    optimizer: str,
    count: int,
    most: int,
    out: Path,
    precision: str = "fp32",
    most_tokens: int = 0,
    node: bool = False,
    recipe: Path | None = None,
    export_behind: int = -1,
    **options: Any,
) -> dict:
    """Losses, gradient norms and final weights; `ratio` changes in the middle. The student is exported to `out`.

    `export_behind`: a step behind which it is exported, too.
    """
    trio = make_trio(student, teacher, thresholds, optimizer, precision, node, options)
    rank, world = dist.get_rank(), dist.get_world_size()
    losses, log, invalid, asked = [], [], [], []
    seen(trio.student, losses)
    for frozen in (trio.teacher, trio.reference):
        frozen.vlm.model.language_model.layers[0].register_forward_pre_hook(lambda *_: asked.append(1))
    with invalidations() as invalidated:
        for number, (ratio, groups) in enumerate(make_steps(student, count)):
            trio.teacher.set_ratio(ratio)
            batches = rank_batches(student, groups, rank, world, most, trio.student.vlm, most_tokens)
            losses.clear()
            norm = trio.learn(batches, len(groups) / world, RATES[optimizer], StepMetrics(), number)
            loss = torch.stack(losses).sum()
            dist.all_reduce(loss)
            log.append((loss.item() / world, norm))
            invalid.append(len(invalidated))
            if number == export_behind:
                trio.student.export(out)
    left = [name for name, p in trio.student.vlm.named_parameters() if p.numel()]
    trio.student.export(out)
    weights = dict(gathered(trio.student.vlm))
    rates = sorted({group["lr"] for group in trio.student.engine.optimizer.param_groups})
    counts = {"invalidated": invalid, "asked": len(asked), "rates": rates}
    return {"log": log, "left gathered": left, "weights": weights, **counts}


def make_trio(
    student: Path, teacher: Path, thresholds: Path, optimizer: str, precision: str, node: bool, options: dict[str, Any]
) -> Trio:
    make = {
        "sgd": lambda groups: torch.optim.SGD(groups, lr=RATES["sgd"]),
        "adamw": lambda groups: torch.optim.AdamW(groups, lr=RATES["adamw"], weight_decay=0.0),
    }[optimizer]
    groups = node_groups(dist.get_rank() // 2) if node else None
    return Trio(
        Zero3Student(student, precision, gradient_clip=1.0, make_optimizer=make, **options),
        Zero3Teacher(teacher, precision, ThresholdsFile.load(thresholds), groups),
        Zero3Frozen(student, precision, groups),
        Objective(1.0, 0.1, "exact", False, 424),
    )


def seen(student: Zero3Student, losses: list[torch.Tensor]) -> None:
    """Have each micro-batch's loss written down."""
    forward = student.forward

    def watched(*inputs: Any) -> torch.Tensor:
        losses.append(forward(*inputs))
        return losses[-1]

    student.forward = watched


@contextmanager
def invalidations() -> Iterator[list[str]]:
    """Count how often DeepSpeed finds modules in another order than before, and forgets what to gather ahead."""
    found: list[str] = []

    trace = PartitionedParameterCoordinator._invalidate_trace

    def counted(coordinator: Any) -> None:
        found.append("invalidated")
        trace(coordinator)

    with mock.patch.object(PartitionedParameterCoordinator, "_invalidate_trace", counted):
        yield found


def small_live(student: Path, teacher: Path, thresholds: Path, out: Path, **options: Any) -> dict:
    """Weights are released at once and gathered again for backward, as those of a large model are."""
    little = {"stage3_prefetch_bucket_size": 1, "stage3_max_live_parameters": 1, "stage3_max_reuse_distance": 0}
    with mock.patch.object(sharding, "buckets", return_value=little):
        return train(student, teacher, thresholds, out=out, **options)


def mask(teacher: Path, thresholds: Path, student: Path, node: bool = False, offload: bool = False, **_: Any) -> dict:
    """The gathered teacher at each ratio, on this rank, after forwards that could leave weights behind."""
    groups = node_groups(dist.get_rank() // 2) if node else None
    engine = Zero3Teacher(teacher, "bf16", ThresholdsFile.load(thresholds), groups, offload=offload)
    batch = one_batch(student, engine)
    states = {}
    for ratio in ("0.50", "0.20", "0.00", "0.50"):
        engine.set_ratio(ratio)
        for _ in range(5):
            with engine.asked(batch.packed, batch.media) as (hidden, _):
                pass
        states[ratio] = {
            "weights": dict(gathered(engine.vlm)),
            "hidden": hidden,
            "buffers": dict(engine.vlm.named_buffers()),
            "sparsity": engine.sparsity,
        }
    name, entry = next(iter(engine._thresholds.tensors.items()))
    wrong = replace(entry, masked={ratio: count + 1 for ratio, count in entry.masked.items()})
    engine._thresholds = replace(engine._thresholds, tensors={**engine._thresholds.tensors, name: wrong})
    refused = refusal(engine, "0.20")
    weights = [parameter.ds_tensor for parameter in engine.vlm.parameters()]
    engine.close()
    return {**states, "refused": refused, "left": sum(weight.untyped_storage().nbytes() for weight in weights)}


def unseen(teacher: Path, thresholds: Path, student: Path, **_: Any) -> dict:
    """What a teacher says that keeps small weights gathered, so that forwards would not see another mask."""
    plain = zero3._config

    def keeping(*arguments: Any, **options: Any) -> dict[str, Any]:
        config = plain(*arguments, **options)
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 100_000
        return config

    with mock.patch.object(zero3, "_config", keeping):
        engine = Zero3Teacher(teacher, "bf16", ThresholdsFile.load(thresholds))
    batch, refused = one_batch(student, engine), []
    for ratio in ("0.50", "0.20", "0.00"):
        refused.append(refusal(engine, ratio))
        for _ in range(5):
            with engine.asked(batch.packed, batch.media):
                pass
    return {"refused": refused}


def levels(recipe: Path, student: Path, **_: Any) -> dict:
    """Rows of the log of one step at each level of a recipe with several teachers."""
    config = load_recipe(recipe)
    cast = Cast(
        config, Storage(str(recipe.parent / config.name)), [f"{teacher.alias}.json" for teacher in config.curriculum]
    )
    ((_, groups),) = make_steps(student, 1)
    rows = []
    for step in steps(config, 4):
        cast.take_level(step)
        batches = rank_batches(student, groups, dist.get_rank(), dist.get_world_size(), 3, cast.trio.student.vlm)
        rows.append(loop._take_step(cast.trio, step, batches, 1e-3, torch.device("cpu"))[0])
    return {"rows": rows}


def one_batch(student: Path, engine: Zero3Frozen) -> MicroBatch:
    ((_, groups),) = make_steps(student, 1)
    (batch,) = rank_batches(student, groups, dist.get_rank(), dist.get_world_size(), len(groups), engine.vlm)
    return batch


def refusal(engine: Zero3Teacher, ratio: str) -> str:
    try:
        engine.set_ratio(ratio)
    except ValueError as error:
        return str(error)
    return ""


def main() -> None:
    """python -m torch.distributed.run ... zero3_worker.py JOBS.json: one job after the other writes <out>-<rank>.pt."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    init_process_group(rank, gpu=False)
    for job in json.loads(Path(sys.argv[1]).read_text()):
        out, what = job.pop("out"), job.pop("what")
        if what in ("train", "small live"):
            job["out"] = f"{out}-student"
        paths = {key: Path(value) if isinstance(value, str) and "/" in value else value for key, value in job.items()}
        jobs = {"train": train, "small live": small_live, "mask": mask, "unseen": unseen, "levels": levels}
        torch.save(jobs[what](**paths), f"{out}-{rank}.pt")
        dist.barrier()
    # DeepSpeed keeps its process groups whatever is destroyed, so gloo's threads run on; an interpreter that took itself apart
    # around them was seen to abort. What there is to say is in the files.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
