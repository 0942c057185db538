"""Bytes on disks: the run directory, and each node's copies of models."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from masters.config.models import ModelConfig
from masters.config.problems import Problem
from masters.config.run import RunConfig
from masters.config.score import ModelJudge
from masters.families.sizes import ModelSize
from masters.planning.memory import checkpoint_bytes
from masters.planning.workload import Workload

IMAGE_BYTE_PER_PIXEL = 0.2
"""Of JPEG or PNG as people have them (assumed)."""
TOKEN_BYTES = 5
"""Of a response in Parquet: text and id of a token (assumed)."""
ROW_BYTES = 300
"""Of a sample, a response or a verdict beside its text, in Parquet (assumed)."""

VOLUME, CACHE, SCRATCH = "storage.pvc.size", "modelCache.sizeGi", "workerGroups.{}.scratchGi"
"""Fields of the chart's values."""


@dataclass(frozen=True)
class Disk:
    """In bytes.

    Attributes:
        images, tables, checkpoints, students: of the run directory; a checkpoint on its way counts.
        checkpoint: of one.
        models: each node's copies, of all models of the recipe that the hub has.
        copies: of masked teachers, which only the paper's way has.
        scratch: of a node that trains, until a checkpoint or a student is stored.
    """

    images: float
    tables: float
    checkpoints: float
    checkpoint: float
    students: float
    models: float
    copies: float
    scratch: float

    @property
    def run(self) -> float:
        """Of the run directory."""
        return self.images + self.tables + self.checkpoints + self.students


def disk_of(load: Workload, nodes: int, *, copies: bool = False) -> Disk:
    """Of a run whose gang is on so many nodes; `copies`: every level is a masked copy of its teacher."""
    config, lengths, sizes = load.config, load.lengths, load.sizes
    checkpoint = checkpoint_bytes(sizes.student, config.train)
    pixels = lengths.image_tokens * sizes.student.tower.token_pixels
    mix = config.generate.mix
    every = load.levels if config.generate.coverage == "all" else len(config.curriculum)
    responses = lengths.train * (mix.teacher * every + mix.student + mix.label)
    students = 1 + (load.levels if config.train.students_by_level else 0)
    masked = sum(
        len(entry.ratio_keys) * 2 * size.parameters
        for entry, size in zip(config.curriculum, sizes.teachers, strict=True)
    )
    return Disk(
        images=lengths.rows * pixels * IMAGE_BYTE_PER_PIXEL,
        tables=lengths.rows * ROW_BYTES + responses * (2 * ROW_BYTES + lengths.response_tokens * TOKEN_BYTES),
        checkpoints=checkpoint * (config.train.keep_checkpoints + 1),
        checkpoint=checkpoint,
        students=students * 2 * sizes.student.parameters,
        models=sum(2 * size.parameters for size in _of_the_hub(load).values()),
        copies=masked if copies else 0.0,
        scratch=max(checkpoint / nodes, 2 * sizes.student.parameters),
    )


def _of_the_hub(load: Workload) -> dict[str, ModelSize]:
    """Models by their name there; a folder lies where it is."""
    config, sizes = load.config, load.sizes
    models: list[ModelConfig] = [config.student, *config.curriculum]
    found = dict(zip((model.path for model in models), (sizes.student, *sizes.teachers), strict=True))
    if isinstance(config.score.judge, ModelJudge) and sizes.judge is not None:
        found[config.score.judge.path] = sizes.judge
    return {path: size for path, size in found.items() if not path.startswith(("/", ".")) and "://" not in path}


def disk_problems(
    config: RunConfig, disk: Disk, volumes: Mapping[str, float], gang: Sequence[str]
) -> Iterator[Problem]:
    """Volumes of the values file that are too small; `gang` are the worker groups that may train."""
    on_volume = disk.run * _is_folder(config.storage)
    mirrored = disk.models * (config.hub_mirror is not None and _is_folder(config.hub_mirror))
    if VOLUME in volumes and on_volume + mirrored > volumes[VOLUME]:
        rule = (
            f"the run directory takes {_gb(disk.run)}, of which {config.train.keep_checkpoints + 1} checkpoints of "
            f"{_gb(disk.checkpoint)} each and students of {_gb(disk.students)}"
        )
        rule += f", and hub_mirror {_gb(mirrored)}" if mirrored else ""
        remedy = f"Use {_more(on_volume + mirrored)}Gi, or lower train.keep_checkpoints."
        yield Problem(VOLUME, _gib(volumes[VOLUME]), rule, remedy)
    scratch = max(map(SCRATCH.format, gang), key=lambda field: volumes.get(field, math.inf), default="")
    if scratch in volumes and config.train.scratch is None and disk.scratch > volumes[scratch]:
        what = f"a checkpoint of {_gb(disk.checkpoint)}, over the nodes of the gang, or a student lies there until it is stored"
        rule = f"{what}: {_gb(disk.scratch)} on a node"
        yield Problem(
            scratch, f"{volumes[scratch] / 2**30:g}", rule, f"Use {_more(disk.scratch)}, and nodes with such disks."
        )
    if CACHE in volumes and disk.models > volumes[CACHE]:
        rule = f"the models of the recipe take {_gb(disk.models)}"
        yield Problem(CACHE, f"{volumes[CACHE] / 2**30:g}", rule, f"Use {_more(disk.models)}.")


def _is_folder(address: str) -> bool:
    return "://" not in address.removeprefix("file://")


def _more(size: float) -> int:
    """A tenth more than needed, in whole 50 GiB."""
    return 50 * int(1.1 * size / 2**30 / 50 + 1)


def _gib(size: float) -> str:
    return f"{size / 2**30:g}Gi"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.0f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
