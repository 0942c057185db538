"""Run by one or two processes (torch.distributed.run): a student that learns on gloo, is saved, loaded and learns on."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

from masters.algo.fused import sft_objective
from masters.algo.terms import Head
from masters.engines.sharding import init_process_group
from masters.engines.zero3 import Zero3Student
from masters.training.batches import MicroBatch
from tests.engines.batches import make_steps, rank_batches

LR = 1e-3


def learn(
    student: Path,
    precision: str,
    factors: dict[str, float],
    scratch: Path,
    steps: int,
    load: str,
    until: int,
    saves: dict[str, str],
) -> dict[str, Any]:
    """Of `steps` those up to `until`, from a checkpoint if one is named, saved behind those of `saves`.

    Gives loss and gradient norm of each step, settings of the optimiser, and what it knows of every weight: when the
    checkpoint was loaded and at the end.
    """
    model = Zero3Student(student, precision, gradient_clip=1.0, make_optimizer=adamw, lr_factors=factors)
    first = model.load(Path(load), scratch)["step"] if load else 0
    loaded, log = states(model), []
    for number, (_, groups) in enumerate(make_steps(student, steps)[first:until], first):
        batches = rank_batches(student, groups, dist.get_rank(), dist.get_world_size(), 3, model.vlm)
        total = torch.zeros(())
        for place, batch in enumerate(batches, 1):
            loss = loss_of(model, batch, len(groups) / dist.get_world_size())
            model.backward(loss, last=place == len(batches))
            norm = model.step(LR)
            total += loss.detach()
        dist.all_reduce(total)
        log.append((total.item() / dist.get_world_size(), norm))
        if folder := saves.get(str(number + 1)):
            model.save(Path(folder), {"step": number + 1})
    inner = model.engine.optimizer.optimizer
    settings = [{key: value for key, value in group.items() if key != "params"} for group in inner.param_groups]
    counted = {float(state["step"]) for state in inner.state.values()}
    if load and until == first:
        model.save(Path(saves["now"]), {"step": first})
    return {"log": log, "loaded": loaded, "states": states(model), "settings": settings, "counted": counted}


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Weights of two or more dimensions decay, the others do not."""
    return torch.optim.AdamW([{**group, "weight_decay": 0.1 if group["decay"] else 0.0} for group in groups], lr=LR)


def loss_of(model: Zero3Student, batch: MicroBatch, groups: float) -> torch.Tensor:
    def loss(hidden_TH: torch.Tensor, weight_VH: torch.Tensor) -> torch.Tensor:
        if batch.responses is None:
            return 0.0 * (hidden_TH.sum() + weight_VH.sum())
        return sft_objective(Head(hidden_TH, weight_VH), batch.responses, groups=groups)[0]

    return model.forward(batch.packed, batch.media, loss)


def states(model: Zero3Student) -> dict[str, list[torch.Tensor]]:
    """(fp32 weight, both moments) of everything that learns, gathered; moments only behind a first step."""
    found = {}
    for name, parameter in model.vlm.named_parameters():
        if parameter.requires_grad:
            found[name] = [safe_get_full_fp32_param(parameter).clone()]
            if model.engine.optimizer.optimizer.state:
                moments = ("exp_avg", "exp_avg_sq")
                found[name] += [safe_get_full_optimizer_state(parameter, moment).clone() for moment in moments]
    return found


def main() -> None:
    """python -m torch.distributed.run ... checkpoint_worker.py JOBS.json: one job after the other writes <out>-<rank>.pt."""
    torch.set_num_threads(1)
    rank = int(os.environ["LOCAL_RANK"])
    init_process_group(rank, gpu=False)
    for job in json.loads(Path(sys.argv[1]).read_text()):
        out, student, scratch = job.pop("out"), Path(job.pop("student")), Path(job.pop("scratch"))
        torch.save(learn(student, scratch=scratch, **job), f"{out}-{rank}.pt")
        dist.barrier()
    # DeepSpeed keeps its process groups whatever is destroyed, so gloo's threads run on; an interpreter that took itself apart
    # around them was seen to abort. What there is to say is in the files.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
