"""Bytes on disks: the run directory, and each node's copies of models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from masters.config.problems import Problem
from masters.config.run import RunConfig
from masters.planning.memory import checkpoint_bytes
from masters.planning.workload import Workload

IMAGE_BYTE_PER_PIXEL = 0.2
"""Of JPEG or PNG as people have them (assumed)."""
TOKEN_BYTES = 5
"""Of a response in Parquet: text and id of a token (assumed)."""
ROW_BYTES = 300
"""Of a sample, a response or a verdict beside its text, in Parquet (assumed)."""

VOLUME, CACHE = "storage.pvc.size", "modelCache.sizeGi"
"""Fields of the chart's values."""


@dataclass(frozen=True)
class Disk:
    """In bytes.

    Attributes:
        images, tables, checkpoints, students: of the run directory; a checkpoint on its way counts.
        checkpoint: of one.
        models: each node's copies, of all models of the recipe.
        copies: of masked teachers, which only the paper's way has.
        scratch: of a node that trains, until a checkpoint is stored.
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
        models=sum(2 * size.parameters for size in (sizes.student, *sizes.teachers, sizes.judge) if size),
        copies=masked if copies else 0.0,
        scratch=checkpoint / nodes,
    )


def disk_problems(config: RunConfig, disk: Disk, volumes: Mapping[str, float]) -> Iterator[Problem]:
    """Volumes of the values file that are too small."""
    if VOLUME in volumes and "://" not in config.storage and disk.run > volumes[VOLUME]:
        rule = (
            f"the run directory takes {_gb(disk.run)}, of which {config.train.keep_checkpoints + 1} checkpoints of "
            f"{_gb(disk.checkpoint)} each"
        )
        yield Problem(VOLUME, _gib(volumes[VOLUME]), rule, f"Use {_more(disk.run)}Gi, or lower train.keep_checkpoints.")
    if CACHE in volumes and disk.models > volumes[CACHE]:
        rule = f"the models of the recipe take {_gb(disk.models)}"
        yield Problem(CACHE, f"{volumes[CACHE] / 2**30:g}", rule, f"Use {_more(disk.models)}.")


def _more(size: float) -> int:
    """A tenth more than needed, in whole 50 GiB."""
    return 50 * int(1.1 * size / 2**30 / 50 + 1)


def _gib(size: float) -> str:
    return f"{size / 2**30:g}Gi"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.0f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
