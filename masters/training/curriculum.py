"""The steps of a training run: which samples, which teacher, which mask ratio, which learning rate."""

from dataclasses import dataclass

from masters.config.run import RunConfig
from masters.config.train import TrainConfig
from masters.data.shards import level_range

_FLOOR = 0.05


@dataclass(frozen=True)
class Step:
    """One optimiser step on the train samples at positions start <= position < stop, all of one level.

    Attributes:
        number: from 0.
        teacher: place in the curriculum.
        level: name of the level.
        ratio: its mask ratio, as written in level names.
    """

    number: int
    teacher: int
    level: str
    ratio: str
    start: int
    stop: int


def steps(config: RunConfig, total: int) -> list[Step]:
    """All steps over `total` train samples: one pass for each teacher; a step never crosses a level.

    The last step of a level holds what is left of it, often fewer than `train.groups_per_step` groups. It is a whole optimiser
    step: its loss is the mean over its own groups and the learning rate is not scaled, so that its groups weigh more.
    """
    planned: list[Step] = []
    for index, teacher in enumerate(config.curriculum):
        names, ratios = config.levels(index), teacher.ratio_keys
        for level, ratio in enumerate(ratios):
            first, last = level_range(level, len(ratios), total)
            for start in range(first, last, config.train.groups_per_step):
                stop = min(start + config.train.groups_per_step, last)
                planned.append(Step(len(planned), index, names[level], ratio, start, stop))
    return planned


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Linear warm-up, then constant or linear decay to 5 % of the peak."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    decay = max(_FLOOR, 1 - step / total) if config.lr_schedule == "linear" else 1.0
    return config.lr * warm * decay
