"""What checkpoints of training weigh, and whether there is room for them. Without torch: `masters check` asks, too."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from masters.config.problems import Problem
from masters.config.run import RunConfig
from masters.config.train import TrainConfig
from masters.models.folder import family_of, parameter_count

CHECKPOINTS = "train/checkpoints"
"""Folder of a run directory."""

_BYTES = 12  # fp32 weight and both moments of Adam; ZeRO-3 writes nothing else of size, in bf16 either


@dataclass(frozen=True)
class _Place:
    """A folder, the field that names it, and how many bytes may yet come to lie there."""

    field: str
    folder: Path
    need: int

    @property
    def _there(self) -> Path:
        """The folder, or what is there of the way to it."""
        return next(path for path in (self.folder, *self.folder.parents) if path.exists())

    @property
    def disk(self) -> int:
        return self._there.stat().st_dev

    @property
    def free(self) -> int:
        return shutil.disk_usage(self._there).free


def scratch_folder(train: TrainConfig) -> Path:
    """Where a checkpoint lies on this machine until it is stored."""
    return Path(train.scratch or tempfile.gettempdir())


def checkpoint_bytes(student: Path, train: TrainConfig) -> int:
    """Bytes of one checkpoint, over all workers: 12 for each weight that learns. Raises ValueError for no model folder."""
    family = family_of(student)
    factors = {"tower": train.tower_lr_factor, "projector": train.projector_lr_factor, "language_model": 1.0}
    return _BYTES * parameter_count(student, lambda name: factors[family.part(name)] > 0)


def in_words(config: RunConfig, size: int) -> str:
    """What one checkpoint of `size` bytes weighs and how many there are, in one line."""
    most = config.train.keep_checkpoints + 1
    return f"a checkpoint weighs {_gb(size)}: {most} of them at most in the run directory, one in {scratch_folder(config.train)}"


def space_problems(config: RunConfig, size: int) -> Iterator[Problem]:
    """Where this machine has no room for checkpoints of `size` bytes: in scratch, and in storage if it is a folder.

    All that are kept lie in storage, and one more until it is there whole; scratch holds one. Checkpoints that an earlier
    attempt left in storage make room for later ones.
    """
    keep = config.train.keep_checkpoints
    places = [_Place("train.scratch", scratch_folder(config.train), size)]
    storage = config.storage.removeprefix("file://")
    if "://" not in storage:
        folder = Path(os.path.abspath(storage)) / config.name
        places.insert(0, _Place("storage", folder, max(0, (keep + 1) * size - _held(folder / CHECKPOINTS))))
    for disk in dict.fromkeys(place.disk for place in places):
        on_it = [place for place in places if place.disk == disk]
        first, need = on_it[0], sum(place.need for place in on_it)
        if first.free < need:
            what = {
                "storage": f"checkpoints of {_gb(size)} each, train.keep_checkpoints {keep} and one on its way",
                "train.scratch": f"a checkpoint of {_gb(size)} until it is stored",
            }
            rule = f"{_gb(need)} more are needed ({'; '.join(what[place.field] for place in on_it)}), {_gb(first.free)} are free"
            remedy = "Make room, lower train.keep_checkpoints, or name a folder on a larger disk."
            yield Problem(first.field, first.folder, rule, remedy)


def _held(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
