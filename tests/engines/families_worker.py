"""Run by two processes: each family under real ZeRO-3, with rows of 2, 0 and 1 images on one rank and none on the other."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from masters.engines.sharding import gathered, init_process_group
from masters.engines.zero3 import Zero3Frozen
from masters.models.chat import ChatProcessor, common_vocabulary
from masters.models.folder import family_of
from masters.training.batches import MicroBatch
from masters.training.groups import Group, Response
from masters.training.metrics import StepMetrics
from tests.engines.batches import RATIOS, ChartCollator
from tests.engines.zero3_worker import make_trio

IMAGES = ((("1", "2"), (), ("3",)), ((),))
"""Of each rank's rows."""


def rank_batch(folder: Path, rank: int, model: Any) -> MicroBatch:
    """What a rank takes; the second one's only row has long responses, so that experts see unequal numbers of tokens."""
    chat, groups = ChatProcessor(folder, family_of(folder)), []
    for number, images in enumerate(IMAGES[rank]):
        sample = {
            "sample_id": f"{rank}-{number}",
            "system": None,
            "history": [],
            "question": f"What is {number}?",
            "image_ids": images,
        }
        answers = [f"It is {word}." * (1 + 6 * rank) for word in ("red", "the blue bar", "four")]
        groups.append(
            Group(sample, [Response("t", i, chat.answer_ids(a), (i + number) % 2) for i, a in enumerate(answers)])
        )
    return ChartCollator(None, chat, model)(groups)


def check(student: Path, teacher: Path, thresholds: Path, out: Path) -> dict:
    """The gathered teacher at each ratio; losses of three steps, and the weights behind them."""
    rank = dist.get_rank()
    trio = make_trio(student, teacher, thresholds, "adamw", "fp32", False, {})
    chats = [ChatProcessor(folder, family_of(folder)) for folder in (student, teacher)]
    trio.objective = replace(trio.objective, vocabulary=common_vocabulary(*chats))
    batch = rank_batch(student, rank, trio.student.vlm)
    found: dict = {"teacher": {}, "norms": []}
    with trio.reference.asked(batch.packed, batch.media) as head:
        found["hidden"], found["head"] = head.hidden_TH.clone(), head.weight_VH.clone()
    for number, ratio in enumerate(RATIOS):
        trio.teacher.set_ratio(ratio)
        found["norms"].append(trio.learn([batch], 2, 1e-3, StepMetrics(), number))
        found["teacher"][ratio] = dict(gathered(trio.teacher.vlm))
    trio.student.export(out)
    found["weights"] = dict(gathered(trio.student.vlm))
    for engine in (trio.teacher, trio.reference):
        engine.close()
    return found


def frozen_head(folder: Path) -> dict:
    """The output head as a split model has it."""
    engine = Zero3Frozen(folder, "fp32")
    batch = rank_batch(folder, dist.get_rank(), engine.vlm)
    with engine.asked(batch.packed, batch.media) as head:
        return {"head": head.weight_VH.clone()}


def main() -> None:
    """python -m torch.distributed.run ... families_worker.py JOBS.json: one job after the other writes <out>-<rank>.pt."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    init_process_group(rank, gpu=False)
    for job in json.loads(Path(sys.argv[1]).read_text()):
        out, what = job.pop("out"), job.pop("what")
        paths = {name: Path(path) for name, path in job.items()}
        found = check(out=Path(f"{out}-student"), **paths) if what == "check" else frozen_head(**paths)
        torch.save(found, f"{out}-{rank}.pt")
        dist.barrier()
    sys.stderr.flush()
    os._exit(0)  # as zero3_worker.py


if __name__ == "__main__":
    main()
