"""Students as Hugging Face folders in the run directory.

The student of a level is written before the checkpoint behind its last step: a gang that was cut off while it wrote continues
from an earlier checkpoint, comes by the level's end again and writes the same files. So behind a checkpoint every level that has
ended is whole, and what is half-written is never read: who reads students waits until train is done.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist

from masters.data.storage import Storage
from masters.data.students import LAST, LEVELS, level_folder
from masters.models.exported import copy_side_files
from masters.models.image_limits import write_limits
from masters.models.licence import keep_licence
from masters.training.curriculum import Step
from masters.training.trio import Cast


def ends_level(planned: Sequence[Step], step: Step) -> bool:
    """Whether a step is the last one of its level."""
    return step.number + 1 == len(planned) or planned[step.number + 1].level != step.level


def export_last(cast: Cast, run: Storage, scratch: Path) -> None:
    """All ranks: write the student that training ended with; it passes through `scratch`."""
    _export(cast, run, LAST, scratch)


def export_level(cast: Cast, run: Storage, level: str, scratch: Path) -> None:
    """All ranks: write the student at the end of a level; what an attempt that was cut off left beside it goes."""
    if dist.get_rank() == 0:
        _sweep(run)
    _export(cast, run, level_folder(level), scratch)


def _export(cast: Cast, run: Storage, name: str, scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as local:
        folder = Path(local) / "student"
        cast.trio.student.export(folder)
        if dist.get_rank() == 0:
            base = cast.trio.student.folder
            copy_side_files(base, folder)
            write_limits(folder, cast.chat.family, cast.chat.images)
            keep_licence(base, folder)
            run.upload(folder, name)
    dist.barrier()


def _sweep(run: Storage) -> None:
    """Delete unfinished folders: each is as large as a student."""
    for folder in {name.removeprefix(f"{LEVELS}/").partition("/")[0] for name in run.names(LEVELS)}:
        if folder.startswith("."):
            run.delete(f"{LEVELS}/{folder}")
