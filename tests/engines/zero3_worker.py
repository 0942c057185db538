"""Run by two processes (torch.distributed.run): real DeepSpeed ZeRO-3 on gloo; results go to a file for the test to read."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from masters.algo.terms import Objective
from masters.engines.zero3 import Zero3Frozen, Zero3Student, Zero3Teacher, gathered, init_process_group
from masters.models.thresholds import ThresholdsFile
from masters.training.metrics import StepMetrics
from masters.training.trio import Trio
from tests.engines.batches import make_steps, rank_batches


def train(
    student: Path,
    teacher: Path,
    thresholds: Path,
    optimizer: str,
    steps: int,
    most: int,
    out: Path,
    precision: str = "fp32",
    most_tokens: int = 0,
    checkpointing: bool = False,
) -> dict:
    """Losses, gradient norms and final weights; `ratio` changes in the middle. The student is exported to `out`."""
    make = {
        "sgd": lambda groups: torch.optim.SGD([{"params": g["params"]} for g in groups], lr=0.1),
        "adamw": lambda groups: torch.optim.AdamW([{"params": g["params"]} for g in groups], lr=1e-3, weight_decay=0.0),
    }[optimizer]
    trio = Trio(
        Zero3Student(student, precision, gradient_clip=1.0, make_optimizer=make, gradient_checkpointing=checkpointing),
        Zero3Teacher(teacher, precision, ThresholdsFile.load(thresholds)),
        Zero3Frozen(student, precision),
        Objective(1.0, 0.1, "exact", False, 424),
    )
    rank, world = dist.get_rank(), dist.get_world_size()
    log = []
    for number, (ratio, groups) in enumerate(make_steps(student, steps)):
        trio.teacher.set_ratio(ratio)
        loss, norm = torch.zeros(()), None
        batches = rank_batches(student, groups, rank, world, most, trio.student.vlm, most_tokens)
        for place, batch in enumerate(batches, 1):
            part = trio.loss(batch, len(groups) / world, StepMetrics(), number)
            trio.student.backward(part, last=place == len(batches))
            norm = trio.student.step({"sgd": 0.1, "adamw": 1e-3}[optimizer])
            loss += part.detach()
        dist.all_reduce(loss)
        log.append((loss.item() / world, norm))
    left = [name for name, p in trio.student.vlm.named_parameters() if p.numel()]
    trio.student.export(out)
    return {"log": log, "left gathered": left, "weights": dict(gathered(trio.student.vlm))}


def mask(teacher: Path, thresholds: Path, student: Path) -> dict:
    """The gathered teacher at each ratio, on this rank, after forwards that could leave weights behind."""
    engine = Zero3Teacher(teacher, "bf16", ThresholdsFile.load(thresholds))
    ((_, groups),) = make_steps(student, 1)
    (batch,) = rank_batches(student, groups, dist.get_rank(), dist.get_world_size(), len(groups), engine.vlm)
    states = {}
    for ratio in ("0.50", "0.20", "0.00", "0.50"):
        engine.set_ratio(ratio)
        for _ in range(5):
            hidden = engine.hidden(batch.packed, batch.media)
        states[ratio] = {
            "weights": dict(gathered(engine.vlm)),
            "hidden": hidden,
            "buffers": dict(engine.vlm.named_buffers()),
        }
    name, entry = next(iter(engine._thresholds.tensors.items()))
    wrong = replace(entry, masked={ratio: count + 1 for ratio, count in entry.masked.items()})
    engine._thresholds = replace(engine._thresholds, tensors={**engine._thresholds.tensors, name: wrong})
    refused = ""
    try:
        engine.set_ratio("0.20")
    except ValueError as error:
        refused = str(error)
    weights = [parameter.ds_tensor for parameter in engine.vlm.parameters()]
    engine.close()
    return {**states, "refused": refused, "left": sum(weight.untyped_storage().nbytes() for weight in weights)}


def main() -> None:
    """python -m torch.distributed.run ... zero3_worker.py JOBS.json: one job after the other writes <out>-<rank>.pt."""
    torch.set_num_threads(1)
    rank = int(os.environ["LOCAL_RANK"])
    init_process_group(rank, gpu=False)
    for job in json.loads(Path(sys.argv[1]).read_text()):
        out, what = job.pop("out"), job.pop("what")
        if what == "train":
            job["out"] = f"{out}-student"
        paths = {key: Path(value) if isinstance(value, str) and "/" in value else value for key, value in job.items()}
        torch.save({"train": train, "mask": mask}[what](**paths), f"{out}-{rank}.pt")
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
